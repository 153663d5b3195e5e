"""Shapes of attentional pooling: Criteo's 26 categorical fields, attention of width 8."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from recops._core.cases import Case, tagged

# name: (B, F, D, A, tags)
_SHAPES: dict[str, tuple[int, int, int, int, frozenset[str]]] = {
    "odd": (3, 5, 3, 4, tagged("test")),
    "three_fields": (4, 3, 5, 2, tagged("test")),
    "one_row": (1, 4, 8, 3, tagged("test")),
    "eight_fields": (2, 8, 2, 3, tagged("test")),
    "criteo_b256": (256, 26, 16, 8, tagged("smoke")),
    "criteo_b4096": (4096, 26, 16, 8, tagged("bench")),
}


def _inputs(
    b: int, f: int, d: int, a: int
) -> Callable[[np.random.Generator], Mapping[str, np.ndarray]]:
    return lambda rng: {
        "x": 0.5 * rng.normal(size=(b, f, d)),
        "kernel": rng.normal(size=(d, a)) / np.sqrt(d),
        "bias": 0.1 * rng.normal(size=a),
        "projection": rng.normal(size=a),
    }


def _flops(b: int, f: int, d: int, a: int) -> tuple[float, float]:
    pairs = b * f * (f - 1) / 2
    return pairs * (2 * a * (d + 1) + 3 * d), pairs * (4 * a * (d + 1) + 8 * d)


CASES: list[Case] = [
    Case("attentional_pooling", name, _inputs(*shape), tags, flops=_flops(*shape))
    for name, (*shape, tags) in _SHAPES.items()
]
