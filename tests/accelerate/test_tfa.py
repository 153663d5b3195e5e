"""Swaps of TensorFlow Addons' layers, where it is installed; our forms of them everywhere."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from recops._core import compat
from recops.accelerate import registry, tfa
from tests.accelerate.swaps import close, drawn, replaced, same

B, T, S, ROWS, D = 3, 4, 5, 11, 6
installed = importlib.util.find_spec("tensorflow_addons") is not None
needs_addons = pytest.mark.skipif(not installed, reason="tensorflow-addons is not installed")

IDS = np.random.default_rng(2).integers(0, ROWS, (B, T))
# The last query of the first row keeps no key.
MASK = np.array([[[1, 0, 1, 1, 0]] * 3 + [[0] * 5], [[1] * 5] * 4, [[0, 0, 0, 0, 1]] * 4])
HEADS = np.stack([MASK, 1 - MASK + MASK * (np.arange(S) == 2)], axis=1)
MASKS = {
    "none": None,
    "queries": np.maximum(MASK[0], np.arange(S) == 1),
    "rows": np.maximum(MASK, np.arange(S) == 1),
    "heads": np.maximum(HEADS, np.arange(S) == 1),
    "a row without a key": MASK,
    "weaker": np.where(MASK == 1, 1.0, 1 - 1e-9).astype("float32"),
}


@pytest.fixture
def addons(recwarn: Any) -> Any:
    return importlib.import_module("tensorflow_addons").layers


@pytest.fixture
def bag(addons: Any) -> Any:
    """Addons' layer, whose kernel asks for the CUDA runtime that the full TensorFlow holds."""
    try:
        addons.EmbeddingBag(1, 1)(np.zeros((1, 1), "int32"))
    except tf.errors.NotFoundError as error:
        pytest.skip(str(error).splitlines()[2])
    return addons.EmbeddingBag


@needs_addons
@pytest.mark.parametrize("combiner", ["sum", "mean"])
def test_bags(bag: Any, combiner: str) -> None:
    same(bag(ROWS, D, combiner=combiner, embeddings_regularizer="l2"), IDS)


@needs_addons
def test_weighted_bags(bag: Any) -> None:
    same(bag(ROWS, D), IDS, weights=tf.constant(drawn(B, T)))


@needs_addons
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("values", [False, True], ids=["two", "three"])
@pytest.mark.parametrize("mask", MASKS)
def test_attention(addons: Any, mask: str, values: bool, bias: bool) -> None:
    old = addons.MultiHeadAttention(
        4, 2, output_size=5, use_projection_bias=bias, kernel_regularizer="l2"
    )
    inputs = [drawn(B, T, 3), drawn(B, S, 6), drawn(B, S, 7)][: 3 if values else 2]
    same(old, inputs, mask=MASKS[mask])


@needs_addons
@pytest.mark.parametrize(
    ("options", "why"),
    [({"dropout": 0.1}, "it drops"), ({"return_attn_coef": True}, "it returns the weights")],
)
def test_attention_that_stays_says_why(addons: Any, options: Any, why: str) -> None:
    old = addons.MultiHeadAttention(4, 2, **options)
    inputs = [drawn(B, T, 3), drawn(B, S, 6)]
    old(inputs)
    with pytest.raises(registry.Kept, match=why):
        replaced(old, inputs)


@needs_addons
def test_attention_over_more_axes_stays(addons: Any) -> None:
    old = addons.MultiHeadAttention(4, 2)
    inputs = [drawn(B, 2, T, 3), drawn(B, 2, S, 6)]
    old(inputs)
    with pytest.raises(registry.Kept, match="not all"):
        replaced(old, inputs)


def attended(layer: Any, query: Any, key: Any, mask: Any) -> np.ndarray:
    """Addons' formula in float64."""
    kernels = (np.asarray(w, np.float64) for w in layer.weights)
    of_query, of_key, of_value, projection, bias = kernels
    q = np.einsum("bti,ine->bnte", query, of_query) / np.sqrt(layer.head_size)
    k, v = (np.einsum("bsi,ine->bnse", key, kernel) for kernel in (of_key, of_value))
    scores = np.einsum("bnte,bnse->bnts", q, k)
    if mask is not None:
        mask = mask[:, None] if mask.ndim == 3 else mask
        # As float32 has it: at such a size it holds nothing else.
        scores = (scores.astype("float32") + np.float32(-10e9) * (1 - mask.astype("float32"))) * 1.0
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.einsum("bnts,bnse,neo->bto", weights, v, projection) + bias


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "jit"])
@pytest.mark.parametrize("mask", MASKS)
def test_attention_has_the_values_of_the_formula(mask: str, jit: bool) -> None:
    layer = tfa.AddonsAttention(2, 4, 5)
    inputs = [drawn(B, T, 3), drawn(B, S, 6)]
    layer(inputs)
    layer.set_weights([drawn(*w.shape) for w in layer.weights])
    out = tf.function(lambda x: layer(x, mask=MASKS[mask]), jit_compile=jit)(inputs)
    close(out, attended(layer, *inputs, MASKS[mask]))


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "jit"])
@pytest.mark.parametrize("combiner", ["sum", "mean"])
def test_bags_have_the_values_of_the_formula(combiner: str, jit: bool) -> None:
    layer = tfa.AddonsBag(ROWS, D, combiner)
    layer(IDS)
    table = np.asarray(layer.get_weights()[0])
    out = tf.function(lambda x: layer(x), jit_compile=jit)(IDS)
    expected = table[IDS].sum(axis=1)
    close(out, expected if combiner == "sum" else expected / T)
    weights = drawn(B, T)
    if combiner == "mean":
        with pytest.raises(ValueError, match="weights need combiner 'sum'"):
            layer(IDS, weights)
    else:
        close(layer(IDS, weights), np.einsum("btd,bt->bd", table[IDS], weights))


@pytest.mark.parametrize(
    "layer",
    [
        tfa.AddonsBag(ROWS, D, "mean", "l2"),
        tfa.AddonsAttention(2, 4, 5, False, "l2"),
    ],
)
def test_they_reload_from_their_configs(layer: Any) -> None:
    again = type(layer).from_config(layer.get_config())
    inputs = IDS if isinstance(layer, tfa.AddonsBag) else [drawn(B, T, 3), drawn(B, S, 6)]
    for one in (layer, again):
        one(inputs)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(inputs), layer(inputs))
    assert len(again.losses) == len(layer.losses) > 0
    assert compat.regularizer_of(again, again.weights[0]) is not None
