"""The time of a call on a device that works on its own: waited for, and in a queue."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any


def timed(call: Callable[[], Any], wait: Callable[[Any], Any], calls: int) -> dict[str, float]:
    """Milliseconds of a call that is waited for, their spread, and of one in a queue of calls."""
    for _ in range(3):
        wait(call())
    each = []
    for _ in range(calls):
        start = time.perf_counter()
        wait(call())
        each.append(1e3 * (time.perf_counter() - start))
    start = time.perf_counter()
    for _ in range(calls):
        last = call()
    wait(last)
    queued = 1e3 * (time.perf_counter() - start) / calls
    fifths = statistics.quantiles(each, n=5, method="inclusive") if calls > 1 else [each[0]] * 4
    return {
        "median_ms": round(statistics.median(each), 4),
        "p20_ms": round(fifths[0], 4),
        "p80_ms": round(fifths[3], 4),
        "queued_ms": round(queued, 4),
    }
