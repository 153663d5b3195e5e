"""GRU and MultiHeadAttention take or refuse what Keras's layers of these names take."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import tensorflow as tf

from recops import layers
from recops._core import compat
from recops._core.compat import keras

ARGUMENTS = {"GRU": (4,), "MultiHeadAttention": (2, 3)}
X = np.random.default_rng(0).normal(size=(3, 5, 6)).astype(np.float32)
# Keras 2 calls it so, and hands it over by place.
RENAMED = {"inputs": "sequences"}

each_layer = pytest.mark.parametrize("name", ARGUMENTS)
only_keras_3 = pytest.mark.skipif(not compat.KERAS_3, reason="Keras 2 has no such thing")


def named(method):
    """The arguments of a method that have names, and their defaults."""
    parameters = list(inspect.signature(method).parameters.values())[1:]
    return {
        p.name: p.default for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }


def called(name, layer):
    return layer(X) if name == "GRU" else layer(X, X)


@each_layer
def test_each_argument_of_keras_is_taken_at_its_default_or_refused_by_name(name):
    theirs, ours = (named(getattr(place, name).__init__) for place in (keras.layers, layers))
    assert len(theirs) >= 14  # Of Keras 2; a newer one has more.
    given = {k: v for k, v in theirs.items() if v is not inspect.Parameter.empty}
    called(name, getattr(layers, name)(*ARGUMENTS[name], **given))
    for argument in theirs.keys() - ours.keys():
        with pytest.raises(ValueError, match=rf"{name}: argument `{argument}`"):
            getattr(layers, name)(*ARGUMENTS[name], **{argument: "else"})


@each_layer
def test_defaults_and_order_are_those_of_keras(name):
    theirs, ours = (named(getattr(place, name).__init__) for place in (keras.layers, layers))
    common = [argument for argument in theirs if argument in ours]
    assert {k: ours[k] for k in common} == {k: theirs[k] for k in common}
    assert [argument for argument in ours if argument in theirs] == common


@each_layer
def test_each_argument_of_the_call_is_taken(name):
    theirs, ours = (named(getattr(place, name).call) for place in (keras.layers, layers))
    assert not {RENAMED.get(argument, argument) for argument in theirs} - ours.keys()


@only_keras_3
@each_layer
def test_shapes_are_given_by_the_names_of_keras(name):
    for method in ("build", "compute_output_shape"):
        theirs, ours = (
            named(getattr(getattr(place, name), method)) for place in (keras.layers, layers)
        )
        assert list(ours) == list(theirs), method


@each_layer
def test_an_argument_that_a_newer_keras_adds(name, monkeypatch):
    class Newer(getattr(keras.layers, name)):
        def __init__(self, *args, rotary=None, **kwargs):
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(keras.layers, name, Newer)
    layer = getattr(layers, name)(*ARGUMENTS[name], rotary=None, name="mine", trainable=False)
    assert called(name, layer).shape[0] == 3
    assert (layer.name, layer.trainable) == ("mine", False)
    with pytest.raises(ValueError, match=f"{name}: argument `rotary` .* must be None .* got 'yes'"):
        getattr(layers, name)(*ARGUMENTS[name], rotary="yes")


@each_layer
def test_an_argument_that_nobody_has_is_refused_by_keras(name):
    with pytest.raises((TypeError, ValueError), match="rotary"):
        getattr(layers, name)(*ARGUMENTS[name], rotary=None)


@pytest.mark.parametrize(
    "shapes",
    [
        ((2, 5, 6), (2, 3, 6), (2, 4, 6)),
        ((2, 5, 6), (2, 3, 6), (3,)),
        ((2, 5, 2, 6), (2, 3, 4, 6), (2, 3, 5, 6)),
    ],
)
def test_values_and_keys_that_do_not_fit_raise(shapes):
    layer = layers.MultiHeadAttention(2, 3)
    for call in (
        lambda: layer.compute_output_shape(*shapes),
        lambda: layer(*(np.ones(shape, np.float32) for shape in shapes)),
    ):
        with pytest.raises(ValueError, match=r"MultiHeadAttention: .* must be equal, got value"):
            call()


def test_queries_of_another_rank_than_values_raise():
    layer = layers.MultiHeadAttention(2, 3)
    with pytest.raises(ValueError, match=r"of one rank, 3 or more, got query \(2, 5, 6\)"):
        layer.compute_output_shape((2, 5, 6), (2, 3, 4, 6))


@only_keras_3
def test_symbolic_keys_that_do_not_fit_raise():
    query, value, key = (keras.Input((steps, 6)) for steps in (5, 3, 4))
    layer = layers.MultiHeadAttention(2, 3)
    layer.build((None, 5, 6), (None, 3, 6))
    with pytest.raises(ValueError, match="must be equal"):
        layer(query, value, key)


@pytest.mark.parametrize("argument", ["num_heads", "key_dim", "value_dim", "sliding_window"])
@pytest.mark.parametrize("value", [0, -2, 1.5])
def test_a_size_that_is_none_is_named(argument, value):
    with pytest.raises(ValueError, match=rf"MultiHeadAttention: argument `{argument}` must be"):
        layers.MultiHeadAttention(**{"num_heads": 2, "key_dim": 3, argument: value})


@pytest.mark.parametrize("argument", ["output_shape", "attention_axes"])
def test_sizes_that_are_no_integers_are_named(argument):
    for value in (8.0, (2, 1.5), "8"):
        with pytest.raises(ValueError, match=f"Invalid `{argument}`"):
            layers.MultiHeadAttention(2, 3, **{argument: value})
    taken = layers.MultiHeadAttention(2, 3, output_shape=np.int64(8))
    assert taken(X, X).shape == (3, 5, 8)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("scores", [False, True])
def test_a_window_is_counted_as_in_keras(causal, scores):
    rows = np.arange(5) < np.array([[5], [3], [1]])
    layer = layers.MultiHeadAttention(2, 3, sliding_window=2)
    distance = np.arange(5)[:, None] - np.arange(5)
    band = (np.abs(distance) < 2) & (~np.full((5, 5), causal) | (distance >= 0))
    got = tf.nest.flatten(
        layer(X, X, use_causal_mask=causal, value_mask=rows, return_attention_scores=scores)
    )
    plain = layers.MultiHeadAttention(2, 3)
    plain(X, X)
    plain.set_weights(layer.get_weights())
    want = plain(X, X, attention_mask=band & rows[:, None])
    np.testing.assert_allclose(got[0], want, atol=1e-6)
    if scores:
        assert np.array_equal(got[1].numpy()[0, 0] > 0, band)


@only_keras_3
def test_a_map_of_policies_decides_for_each_projection(tmp_path):
    policies = keras.dtype_policies.DTypePolicyMap("mixed_bfloat16")
    policies["attention/query"] = keras.dtype_policies.DTypePolicy("float32")
    inputs = keras.Input((5, 6))
    layer = layers.MultiHeadAttention(2, 3, dtype=policies, name="attention")
    model = keras.Model(inputs, layer(inputs, inputs))
    assert layer.query_dense.compute_dtype == "float32"
    assert layer.key_dense.compute_dtype == layer.output_dense.compute_dtype == "bfloat16"
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.layers[1].query_dense.compute_dtype == "float32"
    assert again.layers[1].key_dense.compute_dtype == "bfloat16"
    np.testing.assert_array_equal(tf.cast(again(X), "float32"), tf.cast(model(X), "float32"))


@only_keras_3
def test_a_map_of_policies_may_quantize():
    policies = keras.dtype_policies.DTypePolicyMap()
    policies["attention/query"] = keras.dtype_policies.QuantizedDTypePolicy("int8", "float32")
    layer = layers.MultiHeadAttention(2, 3, use_bias=False, dtype=policies, name="attention")
    assert layer(X, X).shape == X.shape
    dtypes = [keras.backend.standardize_dtype(w.dtype) for w in layer.weights]
    assert sorted(set(dtypes)) == ["float32", "int8"]


@only_keras_3
@pytest.mark.parametrize("place", ["gru", "gru/rnn/gru_cell"])
def test_a_map_of_policies_for_a_gru(place):
    policies = keras.dtype_policies.DTypePolicyMap()
    policies[place] = keras.dtype_policies.DTypePolicy("mixed_float16")
    layer = layers.GRU(4, dtype=policies, name="gru")
    assert layer(X).dtype == (tf.float16 if place == "gru" else tf.float32)
    assert all(weight.dtype == "float32" for weight in layer.weights)


@only_keras_3
def test_projections_can_be_quantized():
    layer = layers.MultiHeadAttention(2, 3, use_bias=False)
    want = layer(X, X)
    dense = [layer.query_dense, layer.key_dense, layer.value_dense, layer.output_dense]
    for part in dense:
        part.quantize("int8")
    assert all(keras.backend.standardize_dtype(d._kernel.dtype) == "int8" for d in dense)
    assert 0 < np.mean((layer(X, X) - want) ** 2) < 1e-2
