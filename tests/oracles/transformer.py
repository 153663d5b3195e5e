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
