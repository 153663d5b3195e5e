"""Shapes of attention: a history of 50 clicks, and AutoInt's 39 fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from recops._core.cases import Case, tagged

Inputs = Callable[[np.random.Generator], Mapping[str, Any]]


def _inputs(b: int, t: int, s: int, n: int, e: int, mask: str | None) -> Inputs:
    """`mask`: "keys" [B, S], "full" [B, T, S], "shared" [B, 1, T, S], "heads" [B, N, T, S]."""

    def make(rng: np.random.Generator) -> Mapping[str, Any]:
        made: dict[str, np.ndarray] = {
            "query": rng.normal(size=(b, t, n, e)),
            "key": rng.normal(size=(b, s, n, e)),
            "value": rng.normal(size=(b, s, n, e)),
        }
        if mask == "keys":
            made["mask"] = np.arange(s) < rng.integers(1, s + 1, size=(b, 1))
        elif mask:
            shape = {"full": (b, t, s), "shared": (b, 1, t, s), "heads": (b, n, t, s)}[mask]
            made["mask"] = rng.uniform(size=shape) < 0.6
        return made

    return make


def _case(
    name: str,
    tag: str,
    b: int,
    t: int,
    s: int,
    n: int,
    e: int,
    mask: str | None = None,
    **options: Any,
) -> Case:
    flops = 4.0 * b * n * t * s * e
    inputs = _inputs(b, t, s, n, e, mask)
    return Case("multi_head_attention", name, inputs, tagged(tag), options, (flops, 2 * flops))


CASES: list[Case] = [
    _case("plain", "test", 2, 3, 3, 2, 3),
    _case("cross_keys", "test", 3, 2, 4, 1, 2, "keys"),
    _case("full_causal", "test", 2, 3, 3, 2, 2, "full", causal=True),
    _case("heads_scaled", "test", 2, 2, 3, 2, 2, "heads", scale=1.0),
    _case("shared_one_row", "test", 1, 1, 2, 2, 3, "shared"),
    _case("history_b64", "smoke", 64, 20, 20, 2, 16, "keys"),
    _case("history_b1024", "bench", 1024, 50, 50, 4, 16, "keys"),
    _case("autoint_b4096", "bench", 4096, 39, 39, 2, 32),
]
