"""Layers of several inputs take the mask that an embedding carries, as those of one input do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from recops import layers
from recops._core.compat import keras

IDS = np.array([[1, 2, 0, 0], [3, 4, 5, 6], [0, 0, 0, 0]])
RNG = np.random.default_rng(2)
QUERY = RNG.normal(size=(3, 4)).astype("float32")
SCORES = RNG.uniform(size=(3, 4)).astype("float32")
OTHERS = RNG.normal(size=(3, 4, 4)).astype("float32")

# A layer, and its inputs about the steps [B, T, 4].
CALLS = {
    "TargetAttention": (lambda: layers.TargetAttention((3,), seed=1), lambda x: (QUERY, x)),
    "TargetAttention dice": (
        lambda: layers.TargetAttention((3,), "dice", seed=1),
        lambda x: (QUERY, x),
    ),
    "InterestEvolution": (lambda: layers.InterestEvolution(seed=1), lambda x: (QUERY, x)),
    "InterestExtractor": (lambda: layers.InterestExtractor(seed=1), lambda x: (x, OTHERS)),
    "DynamicGRU": (lambda: layers.DynamicGRU(4, "augru"), lambda x: (x, SCORES)),
    "BehaviorTransformer": (
        lambda: layers.BehaviorTransformer(num_heads=2, seed=1),
        lambda x: (QUERY, x),
    ),
}


def _embedding() -> Any:
    return keras.layers.Embedding(7, 4, mask_zero=True, embeddings_initializer="normal")


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("name", CALLS)
def test_the_mask_of_an_embedding_is_the_mask_given(name: str, policy: str) -> None:
    make, about = CALLS[name]
    embedding, layer = _embedding(), make()
    layer = type(layer).from_config({**layer.get_config(), "dtype": policy})
    steps = embedding(IDS)
    bare = tf.constant(steps.numpy())
    want = layer(*about(bare), mask=tf.constant(IDS != 0)).numpy()
    assert np.abs(want - layer(*about(bare)).numpy()).max() > 1e-3
    np.testing.assert_array_equal(layer(*about(steps)).numpy(), want)

    ids = keras.Input((4,), dtype="int32", name="ids")
    inputs = {"ids": ids}
    parts = []
    for i, part in enumerate(about(embedding(ids))):
        if isinstance(part, np.ndarray):
            part = inputs[f"input_{i}"] = keras.Input(part.shape[1:], name=f"input_{i}")
        parts.append(part)
    model = keras.Model(inputs, layer(*parts))
    batch = dict(zip(inputs, [IDS, *_arrays(about(steps))]))
    np.testing.assert_array_equal(model(batch).numpy(), want)


def _arrays(parts: tuple[Any, ...]) -> list[np.ndarray]:
    return [part for part in parts if isinstance(part, np.ndarray)]


def test_sessions_carry_theirs() -> None:
    layer = layers.SessionInterest(num_heads=2, seed=1)
    ids = IDS[:, None].repeat(2, 1)
    steps = _embedding()(ids)
    bare = tf.constant(steps.numpy())
    want = layer(QUERY, bare, mask=tf.constant(ids != 0)).numpy()
    assert np.abs(want - layer(QUERY, bare).numpy()).max() > 1e-3
    np.testing.assert_array_equal(layer(QUERY, steps).numpy(), want)


@pytest.mark.parametrize("return_sequences", [False, True])
def test_dynamic_gru_passes_the_mask_on_as_gru_does(return_sequences: bool) -> None:
    steps = _embedding()(IDS)
    for make in (layers.DynamicGRU, keras.layers.GRU):
        found = getattr(make(4, return_sequences=return_sequences)(steps), "_keras_mask", None)
        assert (found is not None) == return_sequences
        if return_sequences:
            np.testing.assert_array_equal(found, IDS != 0)


def test_masks_may_be_given_by_position() -> None:
    x, mask = tf.constant(OTHERS), tf.constant(IDS[:, :4] != 0)
    for layer, inputs, given in (
        (layers.InterestExtractor(seed=1), (x, x), (mask,)),
        (layers.InterestEvolution(seed=1), (QUERY, x), (mask,)),
        (layers.TransformerDecoder(2, 8, seed=1), (x, x), (mask,)),
        (layers.MultiHeadAttention(2, 3, seed=1), (x, x, x), (mask,)),
    ):
        name = "query_mask" if len(inputs) == 3 else "mask"
        want = layer(*inputs, **{name: mask}).numpy()
        np.testing.assert_array_equal(layer(*inputs, *given).numpy(), want)
