"""Shapes of lookups and bags: 26 fields of 100,000 ids, and histories of 50 items."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from recops._core.cases import Case, tagged

Inputs = Callable[[np.random.Generator], Mapping[str, Any]]


def _lookup(b: int, sizes: list[int], dim: int, offsets: bool = True) -> Inputs:
    starts = np.cumsum([0, *sizes[:-1]]).astype(np.int32)
    bounds = sizes if offsets else [sum(sizes)] * len(sizes)

    def make(rng: np.random.Generator) -> Mapping[str, Any]:
        made = {
            "table": rng.normal(size=(sum(sizes), dim)),
            "ids": rng.integers(0, bounds, size=(b, len(sizes))).astype(np.int32),
        }
        return {**made, "offsets": starts} if offsets else made

    return make


def _bag(
    b: int, t: int, rows: int, dim: int, mask: bool = True, weights: bool = False, dtype: Any = None
) -> Inputs:
    def make(rng: np.random.Generator) -> Mapping[str, Any]:
        made = {
            "table": rng.normal(size=(rows, dim)),
            "ids": rng.integers(0, rows, size=(b, t)).astype(dtype or np.int32),
        }
        if mask:
            made["mask"] = np.arange(t) < rng.integers(1, t + 1, size=(b, 1))
        if weights:
            made["weights"] = rng.uniform(0.5, 2.0, size=(b, t))
        return made

    return make


def _case(
    op: str, name: str, inputs: Inputs, tag: str, rows: int = 0, adds: float = 0, **options: Any
) -> Case:
    """`rows` of the table are read; each direction makes `adds` multiplications and additions."""
    read = {"table": rows} if rows else {}
    return Case(op, name, inputs, tagged(tag), options, (adds, adds), read)


CASES: list[Case] = [
    _case("embedding_lookup", "three_fields", _lookup(4, [3, 5, 2], 3), "test"),
    _case("embedding_lookup", "one_table", _lookup(3, [3, 4], 5, offsets=False), "test"),
    _case("embedding_lookup", "one_row", _lookup(1, [6], 2), "test"),
    _case("embedding_lookup", "criteo_b256", _lookup(256, [1000] * 26, 16), "smoke", 256 * 26),
    _case(
        "embedding_lookup", "criteo_b4096", _lookup(4096, [100_000] * 26, 16), "bench", 4096 * 26
    ),
    *(
        _case("embedding_bag", f"{c}_masked", _bag(4, 5, 7, 3), "test", combiner=c)
        for c in ("mean", "sum", "sqrtn")
    ),
    *(
        _case(
            "embedding_bag",
            f"{c}_weighted",
            _bag(3, 4, 6, 2, weights=True, dtype=np.int64),
            "test",
            combiner=c,
        )
        for c in ("mean", "sum", "sqrtn")
    ),
    _case("embedding_bag", "one_row", _bag(1, 3, 4, 5, mask=False), "test"),
    _case(
        "embedding_bag", "history_b256", _bag(256, 20, 1000, 16), "smoke", 256 * 20, 256 * 20 * 32
    ),
    _case(
        "embedding_bag",
        "history_b1024",
        _bag(1024, 50, 100_000, 32),
        "bench",
        1024 * 50,
        1024 * 50 * 64,
    ),
]
