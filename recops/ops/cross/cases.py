"""Shapes of the cross network: 26 fields of 16 and 13 numeric columns make n = 429."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from recops._core.cases import Case, tagged

# name: (B, n, layers, matrix form, tags)
_SHAPES: dict[str, tuple[int, int, int, bool, frozenset[str]]] = {
    "vector": (3, 5, 2, False, tagged("test")),
    "vector_deep": (4, 3, 5, False, tagged("test")),
    "vector_one_row": (1, 7, 1, False, tagged("test")),
    "matrix": (3, 5, 2, True, tagged("test")),
    "matrix_one_row": (1, 3, 3, True, tagged("test")),
    "criteo_b256": (256, 429, 3, False, tagged("smoke")),
    "criteo_b4096": (4096, 429, 3, False, tagged("bench")),
    "criteo_matrix_b4096": (4096, 429, 3, True, tagged("bench")),
}


def _inputs(
    b: int, n: int, layers: int, matrix: bool
) -> Callable[[np.random.Generator], Mapping[str, Any]]:
    shape = (n, n) if matrix else (n,)
    return lambda rng: {
        "x": rng.normal(size=(b, n)),
        "kernels": [rng.normal(size=shape) / np.sqrt(n) for _ in range(layers)],
        "biases": [rng.normal(size=n) for _ in range(layers)],
    }


def _flops(b: int, n: int, layers: int, matrix: bool) -> tuple[float, float]:
    per_layer = 2.0 * b * n * n if matrix else 2.0 * b * n
    return layers * (per_layer + 3 * b * n), layers * (2 * per_layer + 5 * b * n)


CASES: list[Case] = [
    Case(
        "cross_network",
        name,
        _inputs(b, n, layers, matrix),
        tags,
        flops=_flops(b, n, layers, matrix),
    )
    for name, (b, n, layers, matrix, tags) in _SHAPES.items()
]
