"""Shapes of a step on 26 fields of 100,000 ids, and small tables whose ids come often."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from recops._core.cases import Case, tagged
from recops.ops.row_update.rules import RULES

Inputs = Callable[[np.random.Generator], Mapping[str, Any]]

_FIELDS = 26


def _update(
    rule: str, n: int, rows: int, dim: int, fresh: bool = False, catch_up: bool = False
) -> Inputs:
    found = RULES[rule]

    def make(rng: np.random.Generator) -> Mapping[str, Any]:
        def kept(*shape: int) -> np.ndarray:
            return np.zeros(shape) if fresh else rng.uniform(0.1, 1.0, size=shape)

        slots = [*(kept(rows, dim) for _ in found.slots), *(kept(rows) for _ in found.row_slots)]
        if catch_up:
            slots.append(rng.integers(0, 7, size=rows))
        return {
            "table": rng.normal(size=(rows, dim)),
            "slots": slots,
            "ids": rng.integers(0, rows, size=n).astype(np.int64 if catch_up else np.int32),
            "values": rng.normal(size=(n, dim)),
        }

    return make


def _fields(b: int, size: int, dim: int) -> Inputs:
    """Ids of a batch, field by field, and the state of Adam before its first step."""

    def make(rng: np.random.Generator) -> Mapping[str, Any]:
        starts = np.arange(_FIELDS, dtype=np.int32) * size
        ids = rng.integers(0, size, size=(b, _FIELDS), dtype=np.int32) + starts
        shape = (_FIELDS * size, dim)
        return {
            "table": rng.normal(size=shape),
            "slots": [np.zeros(shape), np.zeros(shape)],
            "ids": ids.reshape(-1),
            "values": rng.normal(size=(b * _FIELDS, dim)),
        }

    return make


def _case(name: str, inputs: Inputs, tag: str, rule: str = "adam", **options: Any) -> Case:
    constant = frozenset({"table", "slots", "values"})
    options = {"rule": rule, "learning_rate": 0.01, "step": 7, **options}
    return Case("row_update", name, inputs, tagged(tag), options, constant=constant)


def _criteo(name: str, b: int, size: int, dim: int, tag: str) -> Case:
    # Of so many draws of an id in a field, that many are distinct.
    used = round(_FIELDS * size * -np.expm1(b * np.log1p(-1 / size)))
    return Case(
        "row_update",
        name,
        _fields(b, size, dim),
        tagged(tag),
        {"rule": "adam", "learning_rate": 0.001, "step": 1},
        (RULES["adam"].flops * used * dim, 0),
        {"table": used, "slots": used},
        frozenset({"table", "slots", "values"}),
        frozenset({"table", "slots"}),
    )


def _sums(n: int, rows: int, dim: int) -> Inputs:
    def make(rng: np.random.Generator) -> Mapping[str, Any]:
        ids = rng.integers(0, rows, size=n).astype(np.int32)
        return {"ids": ids, "values": rng.normal(size=(n, dim))}

    return make


def _sums_case(name: str, n: int, rows: int, dim: int, tag: str) -> Case:
    return Case("row_sums", name, _sums(n, rows, dim), tagged(tag), {}, (n * dim, 0))


CASES: list[Case] = [
    *(_case(rule, _update(rule, 9, 5, 3), "test", rule) for rule in RULES),
    _case("adam_fresh", _update("adam", 7, 6, 17, fresh=True), "test", step=1),
    _case("adam_catch_up", _update("adam", 9, 6, 2, catch_up=True), "test", catch_up=True),
    _case("adam_decay", _update("adam", 4, 8, 16), "test", weight_decay=0.1),
    _case("ftrl_penalties", _update("ftrl", 9, 5, 3), "test", "ftrl", l1=0.1, l2=0.2, beta=0.3),
    _criteo("adam_fresh_criteo_b256", 256, 1000, 16, "smoke"),
    _criteo("adam_fresh_criteo_b4096", 4096, 100_000, 16, "bench"),
    _sums_case("few", 7, 4, 3, "test"),
    _sums_case("one", 1, 1, 5, "test"),
    _sums_case("criteo_b256", 256 * _FIELDS, 1000 * _FIELDS, 16, "smoke"),
    _sums_case("criteo_b4096", 4096 * _FIELDS, 100_000 * _FIELDS, 16, "bench"),
]
