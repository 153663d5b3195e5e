"""Shapes of the pairwise ops: Criteo has 26 categorical fields, 39 with its numeric ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from recops._core.cases import Case, tagged

# name: (B, F, D, tags)
_SHAPES: dict[str, tuple[int, int, int, frozenset[str]]] = {
    "odd": (3, 5, 3, tagged("test")),
    "two_fields": (4, 2, 5, tagged("test")),
    "one_row": (1, 4, 8, tagged("test")),
    # More rows than a vector has lanes, and four, two and one vectors of each field in float32.
    "wide": (19, 6, 112, tagged("test")),
    "criteo_b256": (256, 26, 16, tagged("smoke")),
    "criteo_b4096": (4096, 26, 16, tagged("bench")),
    "criteo39_b4096": (4096, 39, 16, tagged("bench")),
}
# A vector for each ordered pair of fields: 4096 examples of 39 would be 400 MB, and as much again
# for each gradient.
_FIELD_AWARE = {
    **{name: shape for name, shape in _SHAPES.items() if "bench" not in shape[3]},
    "criteo_b1024": (1024, 26, 16, tagged("bench")),
    "criteo39_b1024": (1024, 39, 16, tagged("bench")),
}


def _x(*shape: int) -> Callable[[np.random.Generator], Mapping[str, np.ndarray]]:
    return lambda rng: {"x": rng.normal(size=shape)}


def _flops(op: str, b: int, f: int, d: int) -> tuple[float, float]:
    pairs = b * f * (f - 1) / 2
    return {
        "pairwise_inner": (2 * pairs * d, 4 * pairs * d),
        "pairwise_hadamard": (pairs * d, 4 * pairs * d),
        "bi_interaction": (3.0 * b * f * d, 2.0 * b * f * d),
        "fm_interaction": (3.0 * b * f * d, 2.0 * b * f * d),
        "field_aware_interaction": (2 * pairs * d, 2 * pairs * d),
    }[op]


CASES: list[Case] = [
    Case(
        op,
        name,
        _x(b, f, f, d) if op == "field_aware_interaction" else _x(b, f, d),
        tags,
        flops=_flops(op, b, f, d),
    )
    for op in (
        "pairwise_inner",
        "pairwise_hadamard",
        "bi_interaction",
        "fm_interaction",
        "field_aware_interaction",
    )
    for name, (b, f, d, tags) in (
        _FIELD_AWARE if op == "field_aware_interaction" else _SHAPES
    ).items()
]
