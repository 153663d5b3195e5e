"""Beside TensorFlow Addons: its LazyAdam step by step, and our layers under its optimizers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import recops
from recops import layers, optimizers
from recops._core.compat import keras
from recops.models import CATALOGUE
from tests.models.planted import SMALL, data, features_of, read_by

pytestmark = pytest.mark.needs("tensorflow_addons")

ROWS, DIM = 9, 4
DISTINCT = [[1, 4, 2], [4], [0, 8], [1, 2, 6, 7], [5, 1], [3, 8, 0, 4]]
REPEATED = [[1, 4, 1], [4, 4, 4], [0], [6, 2, 6, 6], [5, 1], [3, 3, 0, 3]]


def addons() -> Any:
    import tensorflow_addons

    return tensorflow_addons


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("backend", ["cpp", "xla", "reference"])
@pytest.mark.parametrize("batches", [DISTINCT, REPEATED], ids=["distinct", "repeated"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lazy_adam_is_that_of_addons_step_by_step(
    dtype: str, batches: list[list[int]], backend: str, graph: bool
) -> None:
    rng = np.random.default_rng(1)
    start = rng.normal(size=(ROWS, DIM))
    # Numbers that float32 holds, in which ours keeps its learning rate.
    options = {"learning_rate": 2**-4, "beta_1": 0.75, "beta_2": 1 - 2**-6, "epsilon": 2**-16}
    theirs = addons().optimizers.LazyAdam(**options)
    ours = optimizers.LazyAdam(**options)
    tables = [tf.Variable(start, dtype=dtype) for _ in range(2)]
    ours.build([tables[1]])

    def step(ids: tf.Tensor, values: tf.Tensor) -> None:
        gradient = tf.IndexedSlices(values, ids, (ROWS, DIM))
        ours.apply_gradients([(gradient, tables[1])])

    run = step
    if graph:
        signature = [tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, DIM], dtype)]
        run = tf.function(step, input_signature=signature)
    within = 1e-12 if dtype == "float64" else 2e-6
    with recops.backend(backend):
        for ids in batches:
            values = tf.constant(rng.normal(size=(len(ids), DIM)), dtype)
            gradient = tf.IndexedSlices(values, tf.constant(ids), (ROWS, DIM))
            theirs.apply_gradients([(gradient, tables[0])])
            run(tf.constant(ids), values)
            kept = [theirs.get_slot(tables[0], slot) for slot in ("m", "v")]
            ours_kept = [ours._momentums[0], ours._velocities[0]]
            for want, got in zip([tables[0], *kept], [tables[1], *ours_kept]):
                np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=0, atol=within)
    assert not np.allclose(tables[1].numpy(), start, atol=1e-2)


def test_lazy_adam_and_that_of_addons_train_a_model_alike() -> None:
    batch, labels = data(128)
    found = []
    for make in (addons().optimizers.LazyAdam, optimizers.LazyAdam):
        model = _model("DeepFM")
        model.compile(make(0.01, epsilon=1e-7), "binary_crossentropy")
        options = {"batch_size": 32, "epochs": 2, "shuffle": False, "verbose": 0}
        found.append(model.fit(read_by(model, batch), labels, **options).history["loss"])
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def _model(name: str) -> Any:
    return CATALOGUE[name].build(features_of(name), seed=1, **SMALL[name])


def _made(name: str) -> Any:
    known = addons().optimizers
    if name == "Lookahead":
        return known.Lookahead(known.LazyAdam(0.01), sync_period=3)
    if name == "MovingAverage":
        return known.MovingAverage(known.RectifiedAdam(0.01))
    if name == "AdamW":
        return known.AdamW(weight_decay=1e-5, learning_rate=0.01)
    return getattr(known, name)(learning_rate=0.01)


@pytest.mark.parametrize(
    ("optimizer", "model"),
    [
        *((name, "DeepFM") for name in ("LAMB", "RectifiedAdam", "AdaBelief", "NovoGrad")),
        *((name, "DeepFM") for name in ("Yogi", "AdamW", "MovingAverage")),
        ("Lookahead", "DIN"),
        ("LazyAdam", "DIEN"),
    ],
)
def test_models_train_under_its_optimizers_and_focal_loss(optimizer: str, model: str) -> None:
    batch, labels = data(256)
    made = _model(model)
    loss = addons().losses.SigmoidFocalCrossEntropy(reduction="sum_over_batch_size")
    made.compile(_made(optimizer), loss)
    before = made.get_weights()
    options = {"batch_size": 64, "epochs": 4, "verbose": 0}
    losses = made.fit(read_by(made, batch), labels[:, None], **options).history["loss"]
    assert losses[-1] < losses[0]
    moved = [not np.array_equal(a, b) for a, b in zip(before, made.get_weights())]
    assert np.mean(moved) > 0.8
    assert all(np.isfinite(weight).all() for weight in made.get_weights())


@pytest.mark.parametrize("loss", ["TripletSemiHardLoss", "LiftedStructLoss", "ContrastiveLoss"])
def test_bags_of_ids_learn_a_metric_by_its_losses(loss: str) -> None:
    """Lists of even ids and lists of odd ones, told apart by where they lie."""
    rng = np.random.default_rng(0)
    odd = rng.integers(0, 2, size=(128, 1))
    ids = 2 * rng.integers(1, 11, size=(128, 5)) - odd
    x, y = (keras.Input((5,), dtype="int32", name=name) for name in ("one", "other"))
    bag = layers.EmbeddingBag(20, 4)
    pair = loss == "ContrastiveLoss"
    if pair:
        apart = keras.layers.Subtract()([bag(x), bag(y)])
        output = keras.layers.Lambda(lambda d: tf.sqrt(tf.reduce_sum(d * d, -1) + 1e-9))(apart)
    else:
        output = keras.layers.UnitNormalization()(keras.layers.Dense(4)(bag(x)))
    model = keras.Model({"one": x, "other": y} if pair else {"one": x}, output)
    inputs = {"one": ids, "other": np.roll(ids, 1, axis=0)}
    labels = (odd == np.roll(odd, 1, axis=0))[:, 0] if pair else odd[:, 0]
    model.compile(addons().optimizers.LazyAdam(0.05), getattr(addons().losses, loss)())
    options = {"batch_size": 64, "epochs": 8, "verbose": 0}
    losses = model.fit(
        {name: inputs[name] for name in model.input_names}, labels.astype("int32"), **options
    ).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
