"""Measuring: the stopwatch, the bench of the ops, and where a train step goes."""

from recops.profiling.profile_report import Advice, Layer, Profile
from recops.profiling.step_profile import profile, trace
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
    "Advice",
    "Layer",
    "Profile",
    "Rates",
    "Timing",
    "interleave",
    "once",
    "peak_mib",
    "profile",
    "rates",
    "threads",
    "trace",
]
