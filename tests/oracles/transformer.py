"""The Transformer from Vaswani 2017 in float64: projections, sublayers, positions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.oracles.attention import multi_head_attention


def weights_of(layer: Any) -> Iterator[np.ndarray]:
    """The weights of a layer, one after the other."""
    return iter([np.asarray(w, np.float64) for w in layer.get_weights()])


def attention(
    weights: Iterator[np.ndarray],
    query: np.ndarray,
    value: np.ndarray,
    key: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    causal: bool = False,
    use_bias: bool = True,
) -> np.ndarray:
    """Projections about the attention; takes 4 kernels and 4 biases from `weights`."""

    def project(equation: str, x: np.ndarray) -> np.ndarray:
        return np.einsum(equation, x, next(weights)) + (next(weights) if use_bias else 0)

    inputs = (query, value if key is None else key, value)
    q, k, v = (project("btd,dne->btne", x) for x in inputs)
    return project("btne,ned->btd", multi_head_attention(q, k, v, mask, causal))


def layer_norm(weights: Iterator[np.ndarray], x: np.ndarray, epsilon: float) -> np.ndarray:
    """Takes gamma and beta."""
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * next(weights) + next(weights)


def positions(steps: int, width: int) -> np.ndarray:
    """Section 3.5, one number at a time."""
    out = np.zeros((steps, width))
    for t, i in np.ndindex(steps, width):
        angle = t / 10000 ** (2 * (i // 2) / width)
        out[t, i] = np.cos(angle) if i % 2 else np.sin(angle)
    return out


def block(
    layer: Any,
    x: np.ndarray,
    encoded: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    encoded_mask: np.ndarray | None = None,
) -> np.ndarray:
    """Encoder, or decoder where `encoded` is given, with ReLU; their own weights by part."""

    def norm(index: int, x: np.ndarray) -> np.ndarray:
        return layer_norm(weights_of(layer.norms[index]), x, layer.layer_norm_epsilon)

    def sublayer(index: int, x: np.ndarray, function: Any) -> np.ndarray:
        if layer.norm_first:
            return x + function(norm(index, x))
        return norm(index, x + function(x))

    def feed_forward(x: np.ndarray) -> np.ndarray:
        inner, outer = weights_of(layer.inner), weights_of(layer.outer)
        return np.maximum(x @ next(inner) + next(inner), 0) @ next(outer) + next(outer)

    def itself(x: np.ndarray) -> np.ndarray:
        causal = encoded is not None
        return attention(weights_of(layer.attention), x, x, mask=mask, causal=causal)

    def across(x: np.ndarray) -> np.ndarray:
        return attention(weights_of(layer.cross_attention), x, encoded, mask=encoded_mask)

    x = sublayer(0, x.astype(np.float64), itself)
    if encoded is not None:
        x = sublayer(1, x, across)
    return sublayer(-1, x, feed_forward)
