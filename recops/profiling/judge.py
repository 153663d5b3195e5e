"""Whether what a provider returns is right: as many results, their shapes, their values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Largest error relative to the largest magnitude: a result beyond it is wrong, whatever its speed.
TOLERANCE = {"float64": 1e-9, "float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}


def judge(
    results: Sequence[np.ndarray | None], truth: Sequence[np.ndarray], dtype: str
) -> tuple[float | None, str]:
    """The largest relative error, where there is one, and "ok" or what is wrong.

    A result that is not finite where the truth is, or the other way round, is infinitely wrong.
    """
    if len(results) != len(truth):
        return None, f"wrong: {len(results)} results, expected {len(truth)}"
    worst = 0.0
    for place, (result, wanted) in enumerate(zip(results, truth)):
        if result is None:
            return None, f"wrong: result {place} is missing"
        if result.shape != wanted.shape:
            return None, f"wrong: result {place} has shape {result.shape}, expected {wanted.shape}"
        worst = max(worst, _error(result, wanted))
    return worst, "ok" if worst <= TOLERANCE[dtype] else f"wrong: error {worst:.1e}"


def _error(result: np.ndarray, truth: np.ndarray) -> float:
    finite = np.isfinite(truth)
    if not np.array_equal(np.isfinite(result), finite):
        return float("inf")
    largest = np.max(np.abs(truth), initial=0, where=finite)
    difference = np.subtract(result, truth, out=np.zeros_like(truth), where=finite)
    return float(np.max(np.abs(difference), initial=0) / max(largest, 1e-30))
