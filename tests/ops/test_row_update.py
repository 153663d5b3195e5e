"""The row-sparse step on variables: in place, whole or not at all, whatever the ids look like."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from recops import ops
from recops._core import dispatch, native
from recops.ops.row_update.rules import RULES, slots_of
from tests.oracles.row_update import row_sums, row_update
from tests.testing import error

BACKENDS = dispatch.CONCRETE
MODES = ("eager", "graph", "jit")


def _arrays(
    rule: str, rows: int = 6, shape: tuple[int, ...] = (3,), catch_up: bool = False
) -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(5)
    slots = [rng.uniform(0.1, 1, size=(rows, *shape)) for _ in RULES[rule].slots]
    slots += [rng.uniform(0.1, 1, size=rows) for _ in RULES[rule].row_slots]
    if catch_up:
        slots.append(rng.integers(0, 9, size=rows))
    return rng.normal(size=(rows, *shape)), slots


def _variables(table: np.ndarray, slots: list[np.ndarray], dtype: str = "float32") -> list[Any]:
    return [
        tf.Variable(a.astype(dtype) if a.dtype.kind == "f" else a, trainable=False)
        for a in (table, *slots)
    ]


def _step(mode: str, held: list[Any], **options: Any) -> Any:
    """A step on variables, as a function of ids and values."""

    def step(ids: tf.Tensor, values: tf.Tensor) -> None:
        assert ops.row_update(held[0], held[1:], ids, values, **options) is None

    return step if mode == "eager" else tf.function(step, jit_compile=mode == "jit")


@pytest.mark.needs("backend in mode")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rule", [*RULES, "adam, catch_up"])
def test_variables_are_changed_in_place(rule: str, backend: str, mode: str) -> None:
    rule, _, caught_up = rule.partition(", ")
    options = {"rule": rule, "learning_rate": 0.1, "step": 9, "catch_up": bool(caught_up)}
    table, slots = _arrays(rule, catch_up=bool(caught_up))
    values = np.random.default_rng(1).normal(size=(5, 3))
    ids = np.array([4, 1, 4, 4, 0])
    held = _variables(table, slots)
    _step(mode, held, **options, backend=backend)(tf.constant(ids), tf.constant(values, tf.float32))
    for got, want in zip(held, row_update(table, slots, ids, values, **options)):
        assert error(got.numpy().astype(float), want.astype(float)) < 2e-6


@pytest.mark.parametrize("shape", [(), (2, 3)])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rule", RULES)
def test_tables_of_any_rank(rule: str, backend: str, shape: tuple[int, ...]) -> None:
    table, slots = _arrays(rule, shape=shape)
    ids, values = np.array([3, 3, 5]), np.random.default_rng(1).normal(size=(3, *shape))
    got = ops.row_update(table, slots, ids, values, rule=rule, learning_rate=0.1, backend=backend)
    want = row_update(table, slots, ids, values, rule=rule, learning_rate=0.1)
    assert max(error(g.numpy(), w) for g, w in zip(got, want)) < 1e-12


@pytest.mark.parametrize("backend", ["cpp", "xla"])
@pytest.mark.parametrize("rows", [50, 40_000, 3_000_000])
def test_many_ids_of_which_few_are_popular(backend: str, rows: int) -> None:
    """Bins, tasks and chunks of every kind, beside sums by NumPy in float64."""
    rng = np.random.default_rng(0)
    n = 60_000
    ids = np.minimum(rng.zipf(1.2, size=n) - 1, rows - 1)
    ids[: n // 2] = rng.integers(0, rows, size=n // 2)
    values = rng.integers(-8, 8, size=(n, 2)).astype(np.float32)
    got, total = ops.row_update(
        np.zeros((rows, 2), np.float32),
        [np.zeros((rows, 2), np.float32)],
        ids,
        values,
        rule="adagrad",
        learning_rate=1.0,
        epsilon=1.0,
        backend=backend,
    )
    g = np.zeros((rows, 2))
    np.add.at(g, ids, values)
    # Whole numbers: any order of the sum gives the same.
    assert error(total.numpy().astype(float), g**2) < 1e-6
    assert error(got.numpy().astype(float), -g / np.sqrt(g**2 + 1)) < 1e-6
    sums = ops.row_sums(ids, values, backend=backend).numpy()
    first = np.unique(ids, return_index=True)[1]
    np.testing.assert_array_equal(sums[first], g[ids[first]])
    assert np.count_nonzero(np.delete(sums, first, axis=0)) == 0


@pytest.mark.needs("backend in mode")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bad", [-1, 6])
def test_an_id_without_a_row_changes_nothing(bad: int, backend: str, mode: str) -> None:
    held = _variables(*_arrays("adam"))
    before = [variable.numpy() for variable in held]
    step = _step(mode, held, rule="adam", learning_rate=0.1, backend=backend)
    ids, values = tf.constant([bad, bad]), tf.ones([2, 3])
    if mode != "jit" or backend == "cpp":
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"{bad}"):
            step(ids, values)
    else:
        step(ids, values)
    for variable, value in zip(held, before):
        np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.needs("backend in mode")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_empty_batch_changes_nothing(backend: str, mode: str) -> None:
    held = _variables(*_arrays("ftrl"))
    before = [variable.numpy() for variable in held]
    step = _step(mode, held, rule="ftrl", learning_rate=0.1, backend=backend)
    step(tf.zeros([0], tf.int64), tf.zeros([0, 3]))
    for variable, value in zip(held, before):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert ops.row_sums(tf.zeros([0], tf.int32), tf.zeros([0, 3]), backend=backend).shape == (0, 3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gradient_that_is_not_finite_goes_into_its_own_row(backend: str) -> None:
    table, slots = _arrays("adam")
    values = np.array([[np.nan] * 3, [np.inf] * 3, [1.0] * 3])
    got = ops.row_update(
        table, slots, [1, 4, 2], values, rule="adam", learning_rate=0.1, backend=backend
    )
    for array in got:
        finite = np.isfinite(array.numpy()).all(axis=1)
        assert finite[[0, 2, 3, 5]].all()
        assert not finite[1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_was_read_before_stays_as_it_was(backend: str) -> None:
    """A dense read shares the variable's memory until somebody writes to it."""
    held = _variables(*_arrays("adagrad"))
    first = held[0].numpy()

    @tf.function
    def step() -> tuple[tf.Tensor, tf.Tensor]:
        before = held[0].read_value()
        ops.row_update(
            held[0], held[1:], [2], tf.ones([1, 3]), rule="adagrad", learning_rate=1.0,
            backend=backend,
        )  # fmt: skip
        return before, held[0].read_value()

    eager = held[0].read_value()
    before, after = step()
    np.testing.assert_array_equal(eager, first)
    np.testing.assert_array_equal(before, first)
    np.testing.assert_array_equal(after, held[0])
    assert np.flatnonzero((after.numpy() != first).any(axis=1)).tolist() == [2]


@pytest.mark.needs("backend in mode")
@pytest.mark.parametrize("mode", ["graph", "jit"])
@pytest.mark.parametrize("backend", ["cpp", "xla"])
def test_a_step_does_not_touch_the_rest_of_the_table(backend: str, mode: str) -> None:
    """64 rows of 4 million: one copy of the table alone would take over 50 ms."""
    rows, n = 4_000_000, 64
    held = [tf.Variable(tf.zeros([rows, 16])) for _ in range(3)]
    step = _step(mode, held, rule="adam", learning_rate=0.1, backend=backend)
    ids = tf.constant(np.random.default_rng(0).integers(0, rows, size=n))
    values = tf.ones([n, 16])
    step(ids, values)
    seconds = []
    for _ in range(9):
        start = time.perf_counter()
        step(ids, values)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.01


def test_gradient_of_sums() -> None:
    ids, values = tf.constant([2, 0, 2]), tf.constant([[1.0], [2.0], [3.0]])
    weights = tf.constant([[5.0], [7.0], [11.0]])
    for backend in BACKENDS:
        with tf.GradientTape() as tape:
            tape.watch(values)
            total = tf.reduce_sum(weights * ops.row_sums(ids, values, backend=backend))
        # The third slice is part of the sum that stands at the first place.
        assert tape.gradient(total, values).numpy().ravel().tolist() == [5.0, 7.0, 5.0]
    np.testing.assert_array_equal(row_sums(ids.numpy(), values.numpy()), [[4.0], [2.0], [0.0]])


def test_errors_say_what_came() -> None:
    table, slots = (np.ones((4, 2), np.float32), [np.ones((4, 2), np.float32)] * 2)
    call = {"ids": [0], "values": np.ones((1, 2), np.float32), "learning_rate": 0.1}

    def raised(
        table: Any = table, slots: Any = slots, rule: str = "adam", **changed: Any
    ) -> pytest.ExceptionInfo[ValueError]:
        with pytest.raises(ValueError) as error:
            ops.row_update(table, slots, **{**call, **changed}, rule=rule)
        return error

    assert raised(rule="lion").match("rule must be one of adam, adagrad, rowwise_adagrad, ftrl")
    assert raised(beta_3=0.1).match("options of 'adam' must be one of beta_1, beta_2, epsilon")
    assert raised(rule="ftrl", catch_up=True).match("catch_up needs the moments of rule 'adam'")
    assert raised(slots=slots[:1]).match(r"rule 'adam' keeps 2 slots \(m, v\), got 1")
    narrow = [slots[0], np.ones((4, 3), np.float32)]
    assert raised(slots=narrow).match(r"slot 'v' must be float32 \[4, 2\], got float32 \[4, 3\]")
    assert raised(values=np.ones((1, 3), np.float32)).match(r"values must have shape \[N, 2\], got")
    assert raised(ids=[[0]]).match(r"ids must have shape \[N\], got \[1, 1\]")
    assert raised(ids=[0.5]).match("ids must be int32 or int64")
    assert raised(table=tf.Variable(table)).match("all be variables or all tensors")
    assert slots_of("adam", True) == ("m", "v", "last")


@pytest.mark.needs("cpp")
@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_one_variable_twice_is_refused(mode: str) -> None:
    table = tf.Variable(tf.ones([3, 2]))
    step = _step(mode, [table, table], rule="adagrad", learning_rate=0.1, backend="cpp")
    with pytest.raises(tf.errors.InvalidArgumentError, match="one variable is given twice"):
        step(tf.constant([0]), tf.ones([1, 2]))


@pytest.mark.needs("cpp")
def test_a_raw_call_with_a_scalar_for_a_table_is_an_error() -> None:
    one, ids = tf.constant(1.0), tf.zeros([1], tf.int32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="table: expected"):
        native.call("RowUpdateAdagrad", one, one, ids, tf.ones([1]), tf.ones([3], tf.float64))
