"""Shapes of the outer product layer: Criteo's 26 categorical fields, a first layer of 64 units."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from recops._core.cases import Case, tagged

# name: (B, F, D, U, tags)
_SHAPES: dict[str, tuple[int, int, int, int, frozenset[str]]] = {
    "odd": (3, 5, 3, 4, tagged("test")),
    "two_fields": (4, 2, 5, 2, tagged("test")),
    "one_row": (1, 4, 8, 1, tagged("test")),
    "criteo_b256": (256, 26, 16, 64, tagged("smoke")),
    "criteo_b4096": (4096, 26, 16, 64, tagged("bench")),
}


def _inputs(
    b: int, f: int, d: int, u: int
) -> Callable[[np.random.Generator], Mapping[str, np.ndarray]]:
    return lambda rng: {"x": rng.normal(size=(b, f, d)), "kernel": rng.normal(size=(u, d, d)) / d}


def _flops(b: int, f: int, d: int, u: int) -> tuple[float, float]:
    return float(b * d * (f + d + 2 * u * d)), float(b * d * d * (4 * u + 4))


CASES: list[Case] = [
    Case("outer_product", name, _inputs(*shape), tags, flops=_flops(*shape))
    for name, (*shape, tags) in _SHAPES.items()
]
