"""Shapes of dense layers: DeepFM's first on Criteo, and of DIEN's auxiliary network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from recops._core.cases import Case, tagged

# name: (rows, n, units, activation, bias, tags)
_SHAPES: dict[str, tuple[tuple[int, ...], int, int, str | None, bool, frozenset[str]]] = {
    "odd": ((5,), 3, 7, "relu", True, tagged("test")),
    "steps": ((2, 3), 4, 5, "sigmoid", True, tagged("test")),
    "bare": ((37,), 2, 1, None, False, tagged("test")),
    "one_row": ((1,), 33, 18, "tanh", True, tagged("test")),
    "wide": ((2,), 5, 19, "sigmoid", False, tagged("test")),
    "criteo_b256": ((256,), 416, 400, "relu", True, tagged("smoke")),
    "criteo_b4096": ((4096,), 416, 400, "relu", True, tagged("bench")),
    "criteo_small_b4096": ((4096,), 416, 128, "relu", True, tagged("bench")),
    "dien_auxiliary_b1024": ((2048, 49), 64, 100, "sigmoid", True, tagged("bench")),
}


def _inputs(
    rows: tuple[int, ...], n: int, units: int, bias: bool
) -> Callable[[np.random.Generator], Mapping[str, Any]]:
    def make(rng: np.random.Generator) -> Mapping[str, Any]:
        made = {"x": rng.normal(size=(*rows, n)), "kernel": rng.normal(size=(n, units)) / n**0.5}
        return {**made, "bias": rng.normal(size=units)} if bias else made

    return make


CASES: list[Case] = [
    Case(
        "dense",
        name,
        _inputs(rows, n, units, bias),
        tags,
        options={} if activation is None else {"activation": activation},
        flops=(2.0 * np.prod(rows) * n * units, 4.0 * np.prod(rows) * n * units),
    )
    for name, (rows, n, units, activation, bias, tags) in _SHAPES.items()
]
