"""SampledSoftmax in compile and fit, and the penalty of BatchAwareL2."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from recops import layers, losses
from recops._core import compat
from recops._core.compat import keras

VECTORS = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
LABELS = np.arange(16) % 5 + 1
BATCH = {"vector": VECTORS, "label": LABELS}
COUNTS = [0, 5, 0, 0, 2, 0, 0, 0, 0, 5]


def model(**options):
    inputs = {"vector": keras.Input((4,), name="vector")}
    inputs["label"] = keras.Input((), dtype="int32", name="label")
    layer = layers.SampledSoftmax(9, 6, name="softmax", seed=3, **options)
    made = keras.Model(inputs, layer(inputs["vector"], inputs["label"]))
    return made, layer


@pytest.mark.parametrize("jit", [False, True])
def test_fit_with_sample_weight(jit):
    made, layer = model()
    made.compile(keras.optimizers.Adam(0.1), losses.identity, jit_compile=jit)
    batch = {"vector": VECTORS, "label": LABELS}
    weight = (LABELS != 5).astype("float32")
    before = np.array(layer.embeddings)
    history = made.fit(
        batch, np.zeros(16), sample_weight=weight, batch_size=16, epochs=30, verbose=0
    ).history["loss"]
    assert np.mean(history[-5:]) < np.mean(history[:5]) - 0.3
    assert int(compat.as_tensor(layer.calls)) == 30
    moved = (np.array(layer.embeddings) != before).any(axis=1)
    assert not moved[0]
    assert moved[1:].all()
    # The label of weight 0 is a negative alone: its logit falls for those that count.
    change = np.array(layer.embeddings)[5] - before[5]
    assert (VECTORS[LABELS != 5] @ change).mean() < -0.1


def test_each_call_draws_anew_and_a_saved_layer_goes_on(tmp_path):
    made, _ = model()
    batch = {"vector": VECTORS, "label": LABELS}
    first, second = made(batch), made(batch)
    assert not np.allclose(first, second)
    again, _ = model()
    np.testing.assert_allclose(again(batch).shape, first.shape)
    again.set_weights(made.get_weights())
    np.testing.assert_array_equal(again(batch), made(batch))


@pytest.mark.needs("keras3", "Keras 2 takes the dtype of the policy")
@pytest.mark.parametrize("policy", ["float64", "mixed_bfloat16"])
def test_the_loss_is_float32_under_every_policy(policy):
    made, layer = model(dtype=policy)
    assert made.output.dtype == layer(VECTORS, LABELS).dtype.name == "float32"


def test_the_table_has_a_sparse_gradient():
    _, layer = model(use_bias=True)
    with tf.GradientTape() as tape:
        loss = layer(VECTORS, LABELS)
    assert loss.dtype == tf.float32
    assert isinstance(tape.gradient(loss, compat.variable(layer.embeddings)), tf.IndexedSlices)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_nothing_reads_all_biases_or_holds_what_is_drawn_from(policy):
    layer = layers.SampledSoftmax(999, 6, "frequency", np.arange(1000), use_bias=True, dtype=policy)
    layer(VECTORS, LABELS)

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            loss = layer(VECTORS, LABELS)
        found = tape.gradient(loss, compat.variable(layer.bias))
        assert isinstance(found, tf.IndexedSlices)
        return found.values

    function = gradient.get_concrete_function()
    made = [out for op in function.graph.get_operations() for out in op.outputs]
    assert made
    assert not [t for t in made if t.dtype != tf.resource and {*t.shape} & {999, 1000}]
    assert function().shape == (16 + 6,)


def test_frequency_needs_counts():
    with pytest.raises(ValueError, match=r"'frequency' needs counts \[V \+ 1\], got None"):
        layers.SampledSoftmax(9, 6, "frequency")
    with pytest.raises(
        ValueError, match=r"counts must be 10 numbers, or 10 where weights .* got 7"
    ):
        layers.SampledSoftmax(9, 6, "frequency", 7)
    with pytest.raises(ValueError, match=r"counts must be \[10\] finite numbers"):
        layers.SampledSoftmax(9, 6, "frequency", COUNTS[:4])(VECTORS, LABELS)


@pytest.mark.parametrize("jit", [False, True])
def test_frequency_draws_what_occurs(jit):
    made, layer = model(sampler="frequency", counts=COUNTS)
    made.compile(keras.optimizers.SGD(0.1), losses.identity, jit_compile=jit)
    before = keras.backend.get_value(layer.embeddings).copy()
    made.fit(BATCH, np.zeros(16), batch_size=16, epochs=5, verbose=0)
    moved = (keras.backend.get_value(layer.embeddings) != before).any(axis=1)
    assert np.flatnonzero(moved).tolist() == [1, 2, 3, 4, 5, 9]  # labels, and what was counted


def test_what_is_drawn_from_is_saved_with_the_weights(tmp_path):
    made, layer = model(sampler="frequency", counts=COUNTS)
    config = layer.get_config()
    assert config["counts"] == 10
    assert len(json.dumps(config)) < 1000
    made(BATCH)
    made.save(tmp_path / "model.keras")
    made.save_weights(tmp_path / "model.weights.h5")
    want = made(BATCH)
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(BATCH), want)
    # The weights alone, into a model of the configs.
    bare = type(made).from_config(made.get_config())
    assert np.isnan(bare(BATCH)).all()
    bare.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(bare(BATCH), want)


def test_weights_from_beside_a_config_with_counts_load():
    _, layer = model(sampler="frequency", counts=COUNTS, use_bias=True)
    old = layer.get_config() | {"counts": COUNTS}
    kept = layer.get_weights()[: -len(layer.table)]
    store = {str(i): value + 1 for i, value in enumerate(kept)}
    again = layers.SampledSoftmax.from_config(old)
    again.build((None, 4))
    again.load_own_variables(store)
    for got, value in zip(
        again.get_weights(), [*store.values(), *layer.get_weights()[len(kept) :]]
    ):
        np.testing.assert_array_equal(got, value)
    assert np.isfinite(again(VECTORS, LABELS)).all()
    # Without the counts such a file has nothing to draw from, and says so.
    fresh = layers.SampledSoftmax.from_config(layer.get_config())
    fresh.build((None, 4))
    with pytest.raises(ValueError, match="variables"):
        fresh.load_own_variables(store)


def by_definition(ids, rows, counts, l2):
    """DIN, eq. 6: each distinct id once."""
    penalty = 0.0
    for j in set(ids.ravel()) - {0}:
        penalty += (rows[j] ** 2).sum() / max(counts[j], 1)
    return l2 / 2 * penalty


def test_the_penalty_counts_each_id_once_and_its_gradient_is_sparse():
    rng = np.random.default_rng(1)
    ids, counts = rng.integers(0, 6, size=(4, 3)), np.array([50, 2, 0, 7, 1, 9])
    table = tf.Variable(rng.normal(size=(6, 2)))
    layer = layers.BatchAwareL2(5, l2=0.3, counts=counts, dtype="float64")

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            layer(ids, tf.gather(table, ids))
            (penalty,) = layer.losses
        found = tape.gradient(penalty, table)
        assert isinstance(found, tf.IndexedSlices)
        return penalty, tf.convert_to_tensor(found)

    penalty, found = gradient()
    assert float(penalty) == pytest.approx(by_definition(ids, table.numpy(), counts, 0.3))
    present = np.isin(np.arange(6), ids) & (np.arange(6) > 0)
    want = 0.3 * table.numpy() / np.maximum(counts, 1)[:, None] * present[:, None]
    np.testing.assert_allclose(found, want, atol=1e-12)


def test_counts_come_from_data_in_parts():
    layer = layers.BatchAwareL2(3)
    with pytest.raises(ValueError, match="give counts, or call adapt"):
        layer(np.array([1]), np.ones((1, 2), "float32"))
    layer.adapt([[1, 1], [3, 0]])
    layer.adapt(np.array([1]))
    assert layer.counts.tolist() == [1, 3, 0, 1]
    with pytest.raises(ValueError, match=r"ids 0..3, got dtype int64 from 0 to 4"):
        layer.adapt([4])
    with pytest.raises(ValueError, match=r"counts must be \[4\] numbers"):
        layers.BatchAwareL2(3, counts=[1, 2])
