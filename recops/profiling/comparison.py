"""Rows of a bench beside those of an earlier one: what has become slower, on any machine.

Milliseconds of two runs say little on machines that are shared. What is compared is the speed-up
over the best stock form of the same run, which both runs measured in turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

# A speed-up that fell by less is noise.
FALL = 0.85

Key = tuple[str, str, str, str, str]  # op, case, mode, dtype, provider


class Slower(NamedTuple):
    """A provider whose speed-up over the best stock form fell."""

    key: Key
    before: float
    now: float

    def __str__(self) -> str:
        op, case, mode, dtype, provider = self.key
        return (
            f"slower: {op} {case} {mode} {dtype} {provider}: {self.before:.2f}x the best stock "
            f"form before, {self.now:.2f}x now, measured twice"
        )


def speed_ups(rows: Iterable[Mapping[str, Any]]) -> dict[Key, float]:
    """Over the best stock form of its case: each backend in the faster of graph and jit."""
    best: dict[Key, float] = {}
    for row in rows:
        if row["median_ms"] is not None:
            key = (row["op"], row["case"], row["mode"], row["dtype"], row["provider"])
            best[key] = min(best.get(key, float("inf")), row["median_ms"])
    stock: dict[tuple[str, ...], float] = {}
    for key, milliseconds in best.items():
        if key[4].startswith("stock."):
            stock[key[:4]] = min(stock.get(key[:4], float("inf")), milliseconds)
    return {
        key: stock[key[:4]] / milliseconds
        for key, milliseconds in best.items()
        if not key[4].startswith("stock.") and key[:4] in stock
    }


def slower(
    rows: Iterable[Mapping[str, Any]],
    kept: Iterable[Mapping[str, Any]],
    again: Callable[[str, str], Iterable[Mapping[str, Any]]],
) -> list[Slower]:
    """What is slower than in the kept rows, in the better of two measurements.

    Args:
      rows: of the run that is judged, as `Row.to_dict` gives them.
      kept: of the earlier run.
      again: (op, case) -> rows of that case, measured anew.
    """
    before, now = speed_ups(kept), speed_ups(rows)

    def fallen() -> list[Key]:
        return [key for key in now if key in before and now[key] < FALL * before[key]]

    for op, case in dict.fromkeys(key[:2] for key in fallen()):
        for key, gained in speed_ups(again(op, case)).items():
            now[key] = max(now.get(key, 0.0), gained)
    return [Slower(key, before[key], now[key]) for key in fallen()]
