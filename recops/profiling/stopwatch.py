"""The one stopwatch: interleaved rounds, the machine's floors, and peak memory.

Shared machines are noisy, so candidates are timed in turns in one run and compared by medians; a
figure from another run is never a baseline.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import tensorflow as tf

MIN_ROUNDS = 7

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one candidate over all rounds: median, 20th and 80th percentile."""

    median_ms: float
    p20_ms: float
    p80_ms: float
    rounds: int


@dataclass(frozen=True)
class Rates:
    """What the machine can do: floating-point operations and bytes copied, per second."""

    flops: float
    bytes: float

    def floor_ms(self, flops: float, moved: float) -> float:
        """Least milliseconds for this many operations and bytes: the slower of the two."""
        return 1e3 * max(flops / self.flops, moved / self.bytes)


def interleave(
    candidates: Mapping[str, Callable[[], object]],
    *,
    seconds: float = 3.0,
    max_rounds: int = 50,
    warmup: int = 2,
) -> dict[str, Timing]:
    """Time the candidates in turns, one call each a round.

    Args:
      candidates: name -> function of no arguments. Device work it starts is waited for.
      seconds: rounds go on until this much time has passed (at least 7 rounds).
      max_rounds: but never more than this.
      warmup: calls of each that do not count: the first one traces and compiles.

    Returns: name -> Timing.

    Example:
      >>> from recops import profiling
      >>> timed = profiling.interleave({"sum": lambda: sum(range(100))}, seconds=0.01)
      >>> timed["sum"].p20_ms <= timed["sum"].median_ms <= timed["sum"].p80_ms
      True
    """
    for _ in range(warmup):
        for fn in candidates.values():
            once(fn)
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    start = time.perf_counter()
    for done in range(max_rounds):
        if done >= MIN_ROUNDS and time.perf_counter() - start > seconds:
            break
        for name, fn in candidates.items():
            samples[name].append(once(fn)[1])
    return {name: _summary(taken) for name, taken in samples.items()}


def _summary(taken: list[float]) -> Timing:
    median, p20, p80 = (float(p) for p in np.percentile(taken, (50, 20, 80)))
    return Timing(median, p20, p80, len(taken))


def once(fn: Callable[[], _Result]) -> tuple[_Result, float]:
    """What one call returns, and its milliseconds, device work included."""
    start = time.perf_counter()
    result = fn()
    tf.test.experimental.sync_devices()
    return result, 1e3 * (time.perf_counter() - start)


@functools.cache
def rates(dtype: str = "float32", size: int = 2048, megabytes: int = 256) -> Rates:
    """Measure the machine, once a process: a square matmul of `dtype`, a copy of touched buffers.

    Copied bytes count twice, read and written.
    """
    a = tf.cast(tf.random.stateless_normal([size, size], seed=(1, 2)), dtype)
    multiply = tf.function(lambda: tf.matmul(a, a), autograph=False)
    source = np.ones(megabytes * 2**20 // 8)
    target = np.ones_like(source)
    parts = threads()
    copies = list(zip(np.array_split(target, parts), np.array_split(source, parts)))
    with ThreadPoolExecutor(parts) as pool:
        timed = interleave(
            {
                "matmul": multiply,
                # NumPy lets go of the interpreter lock while it copies.
                "copy": lambda: list(pool.map(lambda pair: np.copyto(*pair), copies)),
            },
            seconds=1.5,
        )
    return Rates(
        flops=2e3 * size**3 / timed["matmul"].median_ms,
        bytes=2e3 * source.nbytes / timed["copy"].median_ms,
    )


def threads() -> int:
    """Threads that TensorFlow's ops may use."""
    return tf.config.threading.get_intra_op_parallelism_threads() or len(os.sched_getaffinity(0))


def peak_mib(fn: Callable[[], object]) -> float | None:
    """Peak memory that a call adds to what is held before it, in MiB; None if nobody tells.

    TensorFlow's allocator knows; where it keeps no statistics (older versions, on the CPU) the
    process's high-water mark is taken, a lower bound, as freed memory that is held is used again.
    """
    device = "GPU:0" if tf.config.list_physical_devices("GPU") else "CPU:0"
    try:
        before = tf.config.experimental.get_memory_info(device)["current"]
        tf.config.experimental.reset_memory_stats(device)
    except ValueError:
        return _process_peak_mib(fn)
    fn()
    tf.test.experimental.sync_devices()
    return float(tf.config.experimental.get_memory_info(device)["peak"] - before) / 2**20


def _process_peak_mib(fn: Callable[[], object]) -> float | None:
    gc.collect()
    before = _status_mib("VmRSS")
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as f:
            f.write("5")  # resets the high-water mark
    except OSError:
        return None
    fn()
    peak = _status_mib("VmHWM")
    return None if before is None or peak is None else max(peak - before, 0.0)


def _status_mib(field: str) -> float | None:
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as f:
        for line in f:
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
    return None
