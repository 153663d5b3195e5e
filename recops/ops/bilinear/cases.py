"""Shapes of bilinear interaction, for each of its types: Criteo has 26 categorical fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from recops._core.cases import Case, tagged

# name: (bilinear type, B, F, D, tags)
_SHAPES: dict[str, tuple[str, int, int, int, frozenset[str]]] = {
    "all_odd": ("all", 3, 5, 3, tagged("test")),
    "all_two_fields": ("all", 4, 2, 5, tagged("test")),
    "all_criteo_b256": ("all", 256, 26, 16, tagged("smoke")),
    "all_criteo_b4096": ("all", 4096, 26, 16, tagged("bench")),
    "each_odd": ("each", 3, 5, 3, tagged("test")),
    "each_one_row": ("each", 1, 4, 6, tagged("test")),
    "each_eight_fields": ("each", 2, 8, 2, tagged("test")),
    "each_criteo_b256": ("each", 256, 26, 16, tagged("smoke")),
    "each_criteo_b4096": ("each", 4096, 26, 16, tagged("bench")),
    "interaction_odd": ("interaction", 3, 5, 3, tagged("test")),
    "interaction_two_fields": ("interaction", 4, 2, 5, tagged("test")),
    "interaction_one_row": ("interaction", 1, 4, 5, tagged("test")),
    "interaction_eight_fields": ("interaction", 2, 8, 2, tagged("test")),
    "interaction_criteo_b256": ("interaction", 256, 26, 16, tagged("smoke")),
    "interaction_criteo_b4096": ("interaction", 4096, 26, 16, tagged("bench")),
}


def _inputs(
    kind: str, b: int, f: int, d: int
) -> Callable[[np.random.Generator], Mapping[str, np.ndarray]]:
    matrices = {"all": (), "each": (f - 1,), "interaction": (f * (f - 1) // 2,)}[kind]
    return lambda rng: {
        "x": rng.normal(size=(b, f, d)),
        "kernel": rng.normal(size=(*matrices, d, d)) / np.sqrt(d),
    }


def _flops(kind: str, b: int, f: int, d: int) -> tuple[float, float]:
    pairs = f * (f - 1) / 2
    gemm = 2.0 * b * (pairs if kind == "interaction" else f - 1) * d * d
    return gemm + b * pairs * d, 2 * gemm + 4 * b * pairs * d


CASES: list[Case] = [
    Case(
        "bilinear_interaction",
        name,
        _inputs(kind, b, f, d),
        tags,
        options={"bilinear_type": kind},
        flops=_flops(kind, b, f, d),
    )
    for name, (kind, b, f, d, tags) in _SHAPES.items()
]
