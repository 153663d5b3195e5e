"""Measuring: the stopwatch, and with it the bench of the ops."""

from recops.profiling.stopwatch import (
    MIN_ROUNDS,
    Rates,
    Timing,
    interleave,
    once,
    peak_mib,
    rates,
    threads,
)

__all__ = [
    "MIN_ROUNDS",
    "Rates",
    "Timing",
    "interleave",
    "once",
    "peak_mib",
    "rates",
    "threads",
]
