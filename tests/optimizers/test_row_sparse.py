"""Row-sparse optimizers beside the NumPy oracle, beside Keras's, and as Keras objects."""

from __future__ import annotations

import gc
import time
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import recops
from recops import layers, optimizers
from recops._core import compat
from recops._core.compat import keras
from tests.oracles.row_update import row_update
from tests.testing import error

ROWS, DIM = 7, 3
NAMES = ("LazyAdam", "LazyAdagrad", "RowwiseAdagrad", "LazyFTRL")
RULES = dict(zip(NAMES, ("adam", "adagrad", "rowwise_adagrad", "ftrl")))
STATE = {"adam": [0.0, 0.0], "adagrad": [0.1], "rowwise_adagrad": [0.1], "ftrl": [0.1, 0.0]}
# Repeated ids, rows that are skipped for some steps, a step with one row.
BATCHES = [[1, 4, 1], [4, 4, 4], [0], [1, 2, 6, 6], [5, 1], [4, 0, 1]]


def _gradients(dtype: Any = tf.float32) -> list[tf.IndexedSlices]:
    rng = np.random.default_rng(2)
    return [
        tf.IndexedSlices(
            tf.cast(rng.normal(size=(len(ids), DIM)), dtype), tf.constant(ids), (ROWS, DIM)
        )
        for ids in BATCHES
    ]


def _table(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(ROWS, DIM)).astype(np.float32)


def _clipped(gradient: tf.IndexedSlices, limits: dict[str, float]) -> tuple[Any, Any]:
    """Distinct ids and their sums, clipped as Keras clips a dense gradient."""
    ids, places = np.unique(gradient.indices.numpy(), return_inverse=True)
    sums = np.zeros((len(ids), DIM))
    np.add.at(sums, places.ravel(), tf.cast(gradient.values, tf.float64).numpy())
    for name, limit in limits.items():
        if name == "clipvalue":
            sums = np.clip(sums, -limit, limit)
        else:
            sums *= min(1.0, limit / np.sqrt(np.sum(sums**2)))
    return ids, sums


def _expected(name: str, table: np.ndarray, gradients: Any, rates: Any, **options: Any) -> Any:
    rule = RULES[name]
    limits = {k: options.pop(k) for k in list(options) if k.startswith(("clip", "global"))}
    row_slots = rule == "rowwise_adagrad"
    slots = [np.full(ROWS if row_slots else (ROWS, DIM), start) for start in STATE[rule]]
    if options.get("catch_up"):
        slots.append(np.zeros(ROWS, np.int64))
    table = table.astype(np.float64)
    for step, (gradient, rate) in enumerate(zip(gradients, rates), start=1):
        ids, sums = _clipped(gradient, limits)
        table, *slots = row_update(
            table, slots, ids, sums, rule=rule, learning_rate=rate, step=step, **options
        )
    return table


OPTIONS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in NAMES),
    ("LazyAdam", {"catch_up": True}),
    ("LazyAdam", {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3}),
    ("LazyFTRL", {"l1": 0.5, "l2": 0.1, "beta": 0.2, "learning_rate_power": -0.7}),
    *((name, {"weight_decay": 0.3}) for name in NAMES),
    *(
        ("LazyAdam", {clip: limit, "epsilon": 0.1})
        for clip, limit in (("clipnorm", 0.7), ("clipvalue", 0.2), ("global_clipnorm", 0.6))
    ),
]


@pytest.mark.parametrize("mode", ["eager", "graph", "jit"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_steps_equal_the_oracle(name: str, options: dict[str, Any], dtype: str, mode: str) -> None:
    table, gradients = tf.Variable(_table()), _gradients(tf.as_dtype(dtype))
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2, 3], [0.1, 0.05, 0.2])
    optimizer = getattr(optimizers, name)(schedule, **options)
    optimizer.build([table])

    def step(values: tf.Tensor, ids: tf.Tensor) -> None:
        optimizer.apply_gradients([(tf.IndexedSlices(values, ids, (ROWS, DIM)), table)])

    if mode != "eager":
        step = tf.function(step, jit_compile=mode == "jit", reduce_retracing=True)
    for gradient in gradients:
        step(gradient.values, gradient.indices)
    rates = [float(schedule(i)) for i in range(len(gradients))]
    want = _expected(name, _table(), gradients, rates, **options)
    assert error(table.numpy().astype(float), want) < 1e-5


@pytest.mark.parametrize(
    ("name", "stock"), [("LazyAdam", "Adam"), ("LazyAdagrad", "Adagrad"), ("LazyFTRL", "Ftrl")]
)
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"global_clipnorm": 0.5}])
def test_dense_gradients_are_kerass(name: str, stock: str, options: dict[str, Any]) -> None:
    ours, theirs = tf.Variable(_table()), tf.Variable(_table())
    pair = (
        getattr(optimizers, name)(0.1, **options),
        getattr(keras.optimizers, stock)(0.1, **options),
    )
    for gradient in _gradients():
        dense = tf.convert_to_tensor(gradient)
        for optimizer, variable in zip(pair, (ours, theirs)):
            optimizer.apply_gradients([(dense, variable)])
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


def test_rowwise_adagrad_is_the_same_on_dense_gradients() -> None:
    sparse, dense = tf.Variable(_table()), tf.Variable(_table())
    pair = optimizers.RowwiseAdagrad(0.1), optimizers.RowwiseAdagrad(0.1)
    for gradient in _gradients():
        pair[0].apply_gradients([(gradient, sparse)])
        pair[1].apply_gradients([(tf.convert_to_tensor(gradient), dense)])
    np.testing.assert_allclose(sparse, dense, rtol=1e-6)
    assert [v.shape for v in compat.variables_of(pair[0])][-1] == (ROWS,)
    scalar = tf.Variable(1.0)
    optimizers.RowwiseAdagrad(0.5, initial_accumulator_value=0.0).apply_gradients(
        [(tf.constant(3.0), scalar)]
    )
    assert scalar.numpy() == pytest.approx(0.5)


def test_catching_up_keeps_the_moments_of_dense_adam() -> None:
    lazy, dense = optimizers.LazyAdam(0.1, catch_up=True), keras.optimizers.Adam(0.1)
    table, other = tf.Variable(_table()), tf.Variable(_table())
    for gradient in _gradients():
        lazy.apply_gradients([(gradient, table)])
        dense.apply_gradients([(tf.convert_to_tensor(gradient), other)])
    used = BATCHES[-1]
    for mine, theirs in (("_momentums", "_momentums"), ("_velocities", "_velocities")):
        got, want = getattr(lazy, mine)[0].numpy(), getattr(dense, theirs)[0].numpy()
        np.testing.assert_allclose(got[used], want[used], rtol=1e-5)
    # And a dense step finds all rows caught up.
    last = tf.random.stateless_normal([ROWS, DIM], (1, 2))
    lazy.apply_gradients([(last, table)])
    dense.apply_gradients([(last, other)])
    np.testing.assert_allclose(
        lazy._momentums[0].numpy(), dense._momentums[0].numpy(), rtol=1e-5, atol=1e-8
    )


def test_catching_up_after_a_step_count_that_was_set_back() -> None:
    table = tf.Variable(_table())
    lazy = optimizers.LazyAdam(0.1, catch_up=True)
    for gradient in _gradients():
        lazy.apply_gradients([(gradient, table)])
    moments = lazy._momentums[0].numpy()
    lazy.iterations.assign(0)
    gradient = _gradients()[2]
    lazy.apply_gradients([(gradient, table)])
    want = 0.9 * moments[0] + 0.1 * gradient.values.numpy()[0]
    np.testing.assert_allclose(lazy._momentums[0].numpy()[0], want, rtol=1e-5)
    assert np.isfinite(table.numpy()).all()


def _model() -> Any:
    ids = keras.Input((4,), dtype="int32")
    pooled = layers.EmbeddingBag(50, 8, mask_zero=False)(ids)
    return keras.Model(ids, keras.layers.Dense(1, activation="sigmoid")(pooled))


def _batches() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    ids = rng.integers(0, 51, size=(64, 4)).astype("int32")
    return ids, (ids.sum(axis=1, keepdims=True) % 2).astype("float32")


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_training_goes_on_after_saving(name: str, jit: bool, tmp_path: Any) -> None:
    options = {"catch_up": True} if name == "LazyAdam" else {}
    x, y = _batches()
    model = _model()
    model.compile(
        getattr(optimizers, name)(0.05, **options), "binary_crossentropy", jit_compile=jit
    )
    model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again.optimizer).__name__ == name
    assert again.optimizer.get_config() == model.optimizer.get_config()
    losses = [
        m.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0).history["loss"]
        for m in (model, again)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0][-1] < losses[0][0]


def test_a_model_trains_after_one_of_the_same_shapes_is_gone() -> None:
    x, y = _batches()
    with recops.backend("xla"):
        for _ in range(2):
            model = _model()
            model.compile(optimizers.LazyAdam(0.05), "binary_crossentropy", jit_compile=False)
            losses = model.fit(x, y, batch_size=16, epochs=2, verbose=0).history["loss"]
            assert losses[-1] < losses[0]
            del model
            gc.collect()


@pytest.mark.needs("LossScaleOptimizer")
@pytest.mark.parametrize("jit", [False, True])
def test_with_loss_scaling(jit: bool) -> None:
    x, y = _batches()
    losses = []
    for wrapped in (False, True):
        keras.utils.set_random_seed(1)
        model = _model()
        optimizer = optimizers.LazyAdam(0.05)
        if wrapped:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=2.0**10)
        model.compile(optimizer, "binary_crossentropy", jit_compile=jit)
        history = model.fit(x, y, batch_size=16, epochs=3, shuffle=False, verbose=0)
        losses.append(history.history["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.needs("keras3")
def test_loss_scaling_skips_a_step_that_is_not_finite() -> None:
    table = keras.Variable(_table())
    optimizer = keras.optimizers.LossScaleOptimizer(optimizers.LazyAdam(0.1))
    optimizer.build([table])
    bad = tf.IndexedSlices(tf.constant([[np.inf] * DIM]), tf.constant([2]), (ROWS, DIM))
    optimizer.apply([bad], [table])
    np.testing.assert_array_equal(table.numpy(), _table())


@pytest.mark.needs("MultiOptimizer")
def test_inside_multi_optimizer() -> None:
    x, y = _batches()
    model = _model()
    model(x[:1])
    by_path = keras.optimizers.OptimizerMap(
        keras.optimizers.Adam(0.01), {".*/embeddings": optimizers.LazyAdagrad(0.5)}
    )
    optimizer = keras.optimizers.MultiOptimizer(by_path)
    model.compile(optimizer, "binary_crossentropy", jit_compile=False)
    history = model.fit(x, y, batch_size=16, epochs=4, verbose=0).history["loss"]
    assert history[-1] < history[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("clip", [None, "global_clipnorm"])
def test_a_traced_step_has_no_tensor_of_the_tables_size(name: str, clip: str | None) -> None:
    rows = 123_457
    table = tf.Variable(tf.zeros([rows, DIM]))
    options = {clip: 1.0} if clip else {}
    optimizer = getattr(optimizers, name)(0.1, **options)
    optimizer.build([table])

    @tf.function
    def step(values: tf.Tensor, ids: tf.Tensor) -> None:
        optimizer.apply_gradients([(tf.IndexedSlices(values, ids, (rows, DIM)), table)])

    graph = step.get_concrete_function(tf.ones([5, DIM]), tf.range(5)).graph
    shapes = [t.shape for op in graph.get_operations() for t in (*op.inputs, *op.outputs)]
    assert len(shapes) > 5
    assert not [s for s in shapes if s.rank is not None and rows in s.as_list()]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "argument",
    [{"use_ema": True}, {"gradient_accumulation_steps": 2}, {"loss_scale_factor": 8.0}],
)
def test_what_needs_the_whole_table_is_refused(name: str, argument: dict[str, Any]) -> None:
    (refused,) = argument
    with pytest.raises(ValueError, match=f"{name}: {refused}=.* is refused: .+"):
        getattr(optimizers, name)(**argument)
    getattr(optimizers, name)(**{refused: None})
    with pytest.raises(TypeError, match=f"{name}: unexpected argument 'momentum'"):
        getattr(optimizers, name)(momentum=0.9)


def test_a_constraint_is_refused_in_the_first_sparse_step() -> None:
    model = keras.Sequential(
        [
            keras.layers.Embedding(9, 2, embeddings_constraint="non_neg"),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(1),
        ]
    )
    model.compile(optimizers.LazyAdam(), "mse", run_eagerly=True)
    with pytest.raises(ValueError, match="has a constraint, which reads and writes the whole"):
        model.fit(np.ones((2, 3), "int32"), np.ones((2, 1)), verbose=0)


def test_a_state_of_other_arguments_is_not_loaded(tmp_path: Any) -> None:
    x, y = _batches()
    model = _model()
    model.compile(optimizers.LazyAdam(catch_up=True), "binary_crossentropy")
    model.fit(x, y, verbose=0)
    other = optimizers.LazyAdam()
    other.build(model.trainable_variables)
    store: dict[str, Any] = {}
    model.optimizer.save_own_variables(store)
    with pytest.raises(
        ValueError, match=r"the saved state has \d+ variables and this optimizer \d+"
    ):
        other.load_own_variables(store)


def test_a_bad_id_leaves_the_model_as_it_was() -> None:
    table = tf.Variable(_table())
    optimizer = optimizers.LazyAdam(0.1)
    bad = tf.IndexedSlices(tf.ones([2, DIM]), tf.constant([1, ROWS]), (ROWS, DIM))
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{ROWS}"):
        optimizer.apply_gradients([(bad, table)])
    np.testing.assert_array_equal(table, _table())


def test_weights_may_be_left_out_of_the_decay() -> None:
    tables = [tf.Variable(_table(), name=name) for name in ("kept", "decayed")]
    optimizer = optimizers.LazyAdam(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["kept"])
    zero = tf.IndexedSlices(tf.zeros([1, DIM]), tf.constant([3]), (ROWS, DIM))
    optimizer.apply_gradients([(zero, table) for table in tables])
    np.testing.assert_array_equal(tables[0], _table())
    np.testing.assert_allclose(tables[1].numpy()[3], 0.95 * _table()[3], rtol=1e-6)


@pytest.mark.parametrize("jit", [False, True])
def test_a_stock_embedding_layer_gains_as_well(jit: bool) -> None:
    """It reads its table whole, which must not become a copy of 4 million rows: 50 ms and more."""
    rows = 4_000_000
    ids = keras.Input((8,), dtype="int32")
    pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(rows, 16)(ids))
    model = keras.Model(ids, keras.layers.Dense(1)(pooled))
    model.compile(optimizers.LazyAdam(), "mse", jit_compile=jit)
    x = np.random.default_rng(0).integers(0, rows, size=(64, 8)).astype("int32")
    y = np.zeros((64, 1), "float32")
    seconds = []
    for _ in range(9):
        start = time.process_time()
        model.train_on_batch(x, y)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.02
