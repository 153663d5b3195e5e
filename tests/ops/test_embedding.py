"""Lookups and bags: sparse gradients, ids without a row, and what lies under the mask."""

from __future__ import annotations

import time

import numpy as np
import pytest
import tensorflow as tf

from recops import ops
from recops._core import device, dispatch

BACKENDS = ("cpp", "xla", "reference")
TABLE = np.arange(14, dtype=np.float32).reshape(7, 2)
OFFSETS = [0, 3]  # two fields, of 3 and of 4 rows


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "source",
    ["variable", "tensor", pytest.param("keras", marks=pytest.mark.needs("keras3"))],
)
def test_gradient_of_the_table_stays_sparse(backend: str, source: str) -> None:
    table = {
        "variable": lambda: tf.Variable(TABLE),
        "tensor": lambda: tf.constant(TABLE),
        "keras": lambda: tf.keras.Variable(TABLE),
    }[source]()

    def steps(ids: tf.Tensor) -> tuple[tf.IndexedSlices, tf.IndexedSlices]:
        with tf.GradientTape(persistent=True) as tape:
            watched = table.value if source == "keras" else table
            tape.watch(watched)
            looked_up = ops.embedding_lookup(table, ids, OFFSETS, backend=backend)
            pooled = ops.embedding_bag(table, ids, backend=backend)
        return tape.gradient(looked_up, watched), tape.gradient(pooled, watched)

    ids = tf.constant([[1, 0], [1, 3]])
    for run in (steps, tf.function(steps)):
        lookup, bag = run(ids)
        assert isinstance(lookup, tf.IndexedSlices)
        assert isinstance(bag, tf.IndexedSlices)
        dense = tf.convert_to_tensor(lookup).numpy()
        np.testing.assert_array_equal(dense[:, 0], [0, 2, 0, 1, 0, 0, 1])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([[0, 0], [3, 1]], r"id 3 in column 0 of ids \[2, 2\].*3 rows there, so ids run 0..2"),
        ([[0, 4]], r"id 4 in column 1.*4 rows there"),
        ([[-1, 0]], r"id -1 in column 0"),
    ],
)
def test_an_id_beyond_its_field_is_named(
    ids: list[list[int]], said: str, dtype: str, backend: str
) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=said):
        ops.embedding_lookup(TABLE, tf.constant(ids, dtype), OFFSETS, backend=backend)


@pytest.mark.needs("backend in mode")
@pytest.mark.parametrize(
    ("backend", "jit", "lookup_said", "bag_said"),
    [
        ("xla", False, r"id\] \[3\] \[in column\] \[0\]", r"embedding_bag: id\] \[7\]"),
        ("cpp", False, r"id 3 in column 0 of ids \[1, 2\]", r"EmbeddingBag: id 7 in column 1"),
        ("cpp", True, r"id 3 in column 0 of ids \[1, 2\]", r"EmbeddingBag: id 7 in column 1"),
    ],
)
def test_an_id_beyond_its_field_is_named_in_a_graph(
    backend: str, jit: bool, lookup_said: str, bag_said: str
) -> None:
    lookup = tf.function(
        lambda ids: ops.embedding_lookup(TABLE, ids, OFFSETS, backend=backend), jit_compile=jit
    )
    np.testing.assert_array_equal(lookup(tf.constant([[2, 0]]))[0], TABLE[[2, 3]])
    with pytest.raises(tf.errors.InvalidArgumentError, match=lookup_said):
        lookup(tf.constant([[3, 0]]))
    bag = tf.function(lambda ids: ops.embedding_bag(TABLE, ids, backend=backend), jit_compile=jit)
    with pytest.raises(tf.errors.InvalidArgumentError, match=bag_said):
        bag(tf.constant([[0, 7]]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_field_ends_where_the_next_begins_wherever_its_columns_stand(backend: str) -> None:
    offsets = np.array([4, 4, 0, 4, 2, 2, 0, 6])
    ends = np.array([6, 6, 2, 6, 4, 4, 2, 7])
    last = ends - offsets - 1
    found = ops.embedding_lookup(TABLE, last[None], offsets, backend=backend)
    np.testing.assert_array_equal(found[0], TABLE[ends - 1])
    for column, rows in enumerate(last + 1):
        for wrong in (rows, -1):
            ids = np.where(np.arange(8) == column, wrong, last)[None]
            said = rf"id {wrong} in column {column} of ids \[1, 8\].*{rows} rows there"
            with pytest.raises(tf.errors.InvalidArgumentError, match=said):
                ops.embedding_lookup(TABLE, ids, offsets, backend=backend)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"id 0 in column 1.* 0 rows there"):
        ops.embedding_lookup(TABLE, [[0, 0]], [3, len(TABLE)], backend=backend)


def test_native_check_of_many_columns_is_no_square() -> None:
    columns = 60_000
    ids, offsets = tf.zeros([1, columns], tf.int32), tf.constant(OFFSETS * (columns // 2))
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        ops.embedding_lookup(TABLE, ids, offsets, backend="cpp")
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3  # a comparison of each column with each takes seconds


def test_native_lookups_of_one_variable_wait_for_writes_alone() -> None:
    table = tf.Variable(TABLE)
    ids = tf.constant([[2, 3]])

    def reads() -> list[tf.Tensor]:
        looked_up = ops.embedding_lookup(table, ids, OFFSETS, backend="cpp")
        return [looked_up[0], ops.embedding_bag(table, ids, combiner="sum", backend="cpp")]

    def step() -> list[tf.Tensor]:
        before = reads()
        table.assign_add(tf.ones_like(TABLE))
        between = reads()
        table.scatter_sub(tf.IndexedSlices(tf.ones([1, 2]), tf.constant([2])))
        return [*before, *between, *reads()]

    run = tf.function(step)
    native = [
        op
        for op in run.get_concrete_function().graph.get_operations()
        if op.type.startswith("Recops>Embedding")
    ]
    assert len(native) == 6
    for op in native:
        assert not [other for other in op.control_inputs if other in native]
    assert [sorted(op.type for op in n.control_inputs) for n in native] == (
        [[]] * 2 + [["AssignAddVariableOp"]] * 2 + [["ResourceScatterSub"]] * 2
    )
    for function in (run, tf.function(step, jit_compile=True)):
        for _ in range(20):
            table.assign(TABLE)
            got = function()
            for place, added in enumerate(([0, 0, 0], [1, 1, 1], [0, 1, 1])):
                now = TABLE[[2, 3, 6]] + np.array(added)[:, None]
                np.testing.assert_array_equal(got[2 * place], now[[0, 2]])
                np.testing.assert_array_equal(got[2 * place + 1], [now[0] + now[1]])


# More rows than a block of the native kernels, and rows that fill no vector, or several.
@pytest.mark.parametrize("dim", [1, 19, 32])
@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("combiner", [None, "mean", "sqrtn"])
@pytest.mark.parametrize("weighted", [False, True])
def test_native_reads_a_variable_where_it_stands(
    dim: int, jit: bool, combiner: str | None, weighted: bool
) -> None:
    rng = np.random.default_rng(0)
    table = tf.Variable(rng.normal(size=(50, dim)))
    ids = tf.constant(rng.integers(0, 25, size=(150, 2)))
    mask = rng.uniform(size=(150, 2)) < 0.6
    weights = tf.constant(rng.uniform(1, 2, size=(150, 2)))

    def step(backend: str) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(weights)
            if combiner is None:
                y = ops.embedding_lookup(table, ids, [0, 25], backend=backend)
            else:
                given = weights if weighted else None
                y = ops.embedding_bag(table, ids, mask, given, combiner, backend=backend)
            total = tf.reduce_sum(y**2)
        dtable, dweights = tape.gradient(
            total, [table, weights], unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        table.scatter_sub(tf.IndexedSlices(0.1 * dtable.values, dtable.indices))
        return y, tf.math.unsorted_segment_sum(dtable.values, dtable.indices, 50), dweights

    start = table.numpy()
    runs = {}
    for backend in ("cpp", "reference"):
        table.assign(start)
        run = tf.function(step, jit_compile=jit and backend == "cpp")
        runs[backend] = [*run(backend), *run(backend), table.numpy()]
    for got, want in zip(runs["cpp"], runs["reference"]):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


def test_native_weight_gradients_are_of_the_rows_that_were_read() -> None:
    table, weights = tf.Variable(TABLE), tf.constant([[1.0, 3.0]])
    with tf.GradientTape() as tape:
        tape.watch(weights)
        y = ops.embedding_bag(table, [[1, 2]], weights=weights, combiner="sum", backend="cpp")
        table.assign(tf.zeros_like(TABLE))
    np.testing.assert_array_equal(tape.gradient(y, weights)[0], TABLE[[1, 2]].sum(1))


def test_where_nothing_can_raise_the_embedding_is_nan() -> None:
    lookup = tf.function(
        lambda ids: ops.embedding_lookup(TABLE, ids, OFFSETS, backend="xla"), jit_compile=True
    )
    got = lookup(tf.constant([[2, 0], [3, 1]])).numpy()
    assert np.isnan(got[1, 0]).all()
    got[1, 0] = 0
    np.testing.assert_array_equal(got, [TABLE[[2, 3]], [[0, 0], TABLE[4]]])
    bag = tf.function(lambda ids: ops.embedding_bag(TABLE, ids, backend="xla"), jit_compile=True)
    assert np.isnan(bag(tf.constant([[1, 9], [1, 1]])).numpy()).tolist() == [
        [True] * 2,
        [False] * 2,
    ]


def test_a_graph_for_a_gpu_checks_ids_without_the_host() -> None:
    """No branch and no assertion, which the step would wait for; NaN for an id without a row."""
    kept = tf.constant([[True, True], [True, False]])

    def both(ids: tf.Tensor) -> list[tf.Tensor]:
        return [
            ops.embedding_lookup(TABLE, ids, OFFSETS, backend="xla"),
            ops.embedding_bag(TABLE, ids, kept, backend="xla"),
        ]

    def of_the_host(kind: str) -> set[str]:
        with device.running_on(kind):
            traced = tf.function(both).get_concrete_function(tf.TensorSpec([2, 2], tf.int32))
        return {op.type for op in traced.graph.get_operations()} & {"If", "StatelessIf", "Assert"}

    assert of_the_host("CPU")
    assert not of_the_host("GPU")
    with device.running_on("GPU"):
        lookup, bag = tf.function(both)(tf.constant([[2, 0], [9, 1]]))
        assert np.isnan(lookup).all(axis=2).tolist() == [[False, False], [True, False]]
        assert np.isnan(bag).tolist() == [[False] * 2, [True] * 2]
        with pytest.raises(tf.errors.InvalidArgumentError, match="id 9 in column 0"):
            both(tf.constant([[2, 0], [9, 1]]))
        with dispatch.serving():  # what is exported may run anywhere
            served = tf.function(both).get_concrete_function(tf.TensorSpec([2, 2], tf.int32))
    assert {op.type for op in served.graph.get_operations()} & {"If", "StatelessIf"}


def test_fields_that_share_rows_end_where_the_next_block_begins() -> None:
    # Fields 0 and 2 read rows 0..2, field 1 rows 3..6.
    got = ops.embedding_lookup(TABLE, [[2, 3, 1]], [0, 3, 0]).numpy()
    np.testing.assert_array_equal(got[0], TABLE[[2, 6, 1]])
    with pytest.raises(tf.errors.InvalidArgumentError, match="id 3 in column 2"):
        ops.embedding_lookup(TABLE, [[2, 3, 3]], [0, 3, 0])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("combiner", ["mean", "sum", "sqrtn"])
@pytest.mark.parametrize("jit", [False, True])
def test_what_is_under_the_mask_has_no_effect(backend: str, combiner: str, jit: bool) -> None:
    table = TABLE.copy()
    table[5] = np.nan
    mask = np.array([[True, True, False], [False, False, False]])
    clean = np.array([[1, 2, 0], [0, 0, 0]], np.int32)
    dirty = np.array([[1, 2, 5], [5, 99, -7]], np.int32)
    weights = np.array([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]], np.float32)
    noisy = np.where(mask, weights, np.nan).astype(np.float32)

    def step(ids: tf.Tensor, w: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        source = tf.constant(table)
        with tf.GradientTape() as tape:
            tape.watch([source, w])
            y = ops.embedding_bag(source, ids, mask, w, combiner, backend=backend)
        dtable, dweights = tape.gradient(y, [source, w])
        return y, tf.convert_to_tensor(dtable), dweights

    run = tf.function(step, jit_compile=jit)
    for want, got in zip(run(clean, tf.constant(weights)), run(dirty, tf.constant(noisy))):
        assert np.isfinite(got.numpy()).all()
        np.testing.assert_array_equal(want, got)
    assert not run(dirty, tf.constant(noisy))[0].numpy()[1].any()


def test_weights_that_sum_to_zero_give_zero() -> None:
    for combiner in ("mean", "sqrtn"):
        got = ops.embedding_bag(TABLE, [[1, 2]], weights=[[0.0, 0.0]], combiner=combiner)
        assert got.numpy().tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_batch_and_no_steps(backend: str) -> None:
    no_rows = np.zeros((0, 2), np.int32)
    assert ops.embedding_lookup(TABLE, no_rows, OFFSETS, backend=backend).shape == (0, 2, 2)
    assert ops.embedding_bag(TABLE, no_rows, backend=backend).shape == (0, 2)
    assert not ops.embedding_bag(TABLE, np.zeros((3, 0), np.int32), backend=backend).numpy().any()


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"table must have shape \[R, D\], got \[14\]"):
        ops.embedding_lookup(TABLE.reshape(-1), [[1]])
    with pytest.raises(ValueError, match=r"table must be a float variable \[R, D\].*\[14\]"):
        ops.embedding_lookup(tf.Variable(TABLE.reshape(-1)), [[1]])
    with pytest.raises(ValueError, match=r"ids must be int32 or int64.*float32.*\[1, 1\]"):
        ops.embedding_lookup(TABLE, np.ones((1, 1), np.float32))
    with pytest.raises(ValueError, match=r"offsets must have shape \[2\], got \[3\]"):
        ops.embedding_lookup(TABLE, [[1, 2]], [0, 1, 2])
    with pytest.raises(ValueError, match="combiner must be one of mean, sum, sqrtn, got 'max'"):
        ops.embedding_bag(TABLE, [[1]], combiner="max")
    # One row or one column would be spread over all of them.
    ids = [[1, 2, 3], [3, 4, 5]]
    for backend in BACKENDS:
        for shape in ([2, 1], [1, 3]):
            said = rf"must have shape \[2, 3\], got \[{shape[0]}, {shape[1]}\]"
            with pytest.raises(ValueError, match=f"mask {said}"):
                ops.embedding_bag(TABLE, ids, mask=np.ones(shape, bool), backend=backend)
            with pytest.raises(ValueError, match=f"weights {said}"):
                ops.embedding_bag(TABLE, ids, weights=np.ones(shape, "f"), backend=backend)
    with pytest.raises(ValueError, match="mask must be bool"):
        ops.embedding_bag(TABLE, [[1]], mask=np.ones((1, 1), np.float32))
