"""Sequence layers and models in 16 bit: rows of padding alone, gradients, and steps of training."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recops._core.compat import keras, variable
from recops.models import CATALOGUE
from tests.layers import (
    specs_behavior,
    specs_interest,
    specs_recurrent,
    specs_session,
    specs_target_attention,
    specs_transformer,
)
from tests.models.planted import SMALL, data, features_of, read_by

POLICIES = ("mixed_bfloat16", "mixed_float16")
MODULES = (
    specs_behavior,
    specs_interest,
    specs_recurrent,
    specs_session,
    specs_target_attention,
    specs_transformer,
)
SPECS = [spec for module in MODULES for spec in module.SPECS]
MODELS = [name for name in SMALL if CATALOGUE[name].task == "sequence"]
# A loss scale: gradients of a size that training sees.
SCALE = 2.0**4

each_policy = pytest.mark.parametrize("policy", POLICIES)


def padded(x):
    """Inputs whose first row is padding alone, with NaN under their mask."""
    x = {name: np.array(value) for name, value in x.items()}
    mask = x["mask"]
    mask[0] = False
    for name, value in x.items():
        if value.dtype.kind == "f" and value.shape[:-1] == mask.shape:
            x[name] = np.where(mask[..., None], value, np.nan).astype(value.dtype)
    return x


def called(spec, layer, rng):
    x = spec.inputs(rng)
    if isinstance(x, dict) and "mask" in x:
        return spec.call(layer, padded(x))
    if spec.masked is None:
        return spec.call(layer, x)
    mask = np.arange(x.shape[1]) < np.array([0, 1, 2, 3, 4, 5])[:, None]
    return spec.masked(layer, x, tf.constant(mask))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
@each_policy
def test_results_and_gradients_are_finite(spec, policy):
    layer = spec.make(dtype=policy, backend="reference")
    with tf.GradientTape() as tape:
        results = tf.nest.flatten(called(spec, layer, np.random.default_rng(3)))
        squares = [tf.reduce_mean(tf.square(tf.cast(y, tf.float32))) for y in results]
        loss = SCALE * tf.add_n([*squares, *layer.losses])
    assert all(y.dtype.name == layer.compute_dtype for y in results)
    assert all(np.isfinite(tf.cast(y, tf.float32)).all() for y in results)
    weights = [variable(w) for w in layer.trainable_weights]
    for weight, gradient in zip(weights, tape.gradient(loss, weights)):
        assert np.isfinite(tf.convert_to_tensor(gradient)).all(), weight
    assert not weights or float(loss) > 0


@pytest.fixture(params=POLICIES)
def policy(request):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(request.param)
    yield request.param
    keras.mixed_precision.set_global_policy(before)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_trains_with_rows_of_padding_alone(name, policy):
    model = CATALOGUE[name].build(
        features_of(name), **{**SMALL[name], "seed": 1, "backend": "reference"}
    )
    batch, labels = data(64)
    batch = read_by(model, batch)
    for key in ("history", "negatives", "sessions"):
        if key in batch:
            batch[key][::4] = 0
    optimizer = keras.optimizers.SGD(0.1)
    if policy == "mixed_float16":
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
    model.compile(optimizer, "binary_crossentropy", jit_compile=False)
    start = model.get_weights()
    log = model.fit(batch, labels, batch_size=16, shuffle=False, verbose=0)
    assert np.isfinite(log.history["loss"]).all()
    # A step whose gradient is not finite would be left out, and no weight would move.
    moved = [not np.array_equal(a, b) for a, b in zip(start, model.get_weights())]
    assert np.mean(moved) > 0.9
    assert all(np.isfinite(w).all() for w in model.get_weights())


@pytest.mark.parametrize("name", SMALL)
def test_a_model_trains_for_200_steps(name, policy):
    model = CATALOGUE[name].build(features_of(name), **{**SMALL[name], "seed": 1})
    assert model.output.dtype in ("float32", tf.float32)
    optimizer = keras.optimizers.Adam(0.01)
    if policy == "mixed_float16":
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
    model.compile(optimizer, "binary_crossentropy", jit_compile=False)
    batch, labels = data(640)
    batch = read_by(model, batch)
    # The mean of an epoch is not finite if the loss of one of its steps is not.
    log = model.fit(batch, labels, batch_size=32, epochs=10, shuffle=False, verbose=0)
    assert np.isfinite(log.history["loss"]).all()
    assert log.history["loss"][-1] < log.history["loss"][0]
    assert all(np.isfinite(w).all() for w in model.get_weights())
