"""An exported program beside the live model, each in its own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from recops._core import dispatch
from recops.export import fresh
from recops.export.served import Served

Batch = dict[str, np.ndarray]

# Of the largest output. Kernels of another backend add in another order; in 16 bits each layer
# rounds, and the two do not round the same sums.
TOLERANCE = {None: 1e-5, "float16": 1e-2, "bfloat16": 5e-2}


def live(served: Served, batch: Batch) -> Batch:
    """What the model gives, by the backend that it runs here, on the CPU."""
    inputs = {name: tf.constant(value) for name, value in batch.items()}
    with tf.device("CPU:0"):
        found = {name: value.numpy() for name, value in served.outputs(inputs).items()}
        if served.half and any(value.dtype.kind != "f" for value in found.values()):
            # A choice between two that are nearly the same follows the rounding.
            with dispatch.serving():
                found = {name: v.numpy() for name, v in served.outputs(inputs).items()}
    return found


def elsewhere(jobs: Sequence[tuple[str, Path, Sequence[Batch]]]) -> list[list[Batch]]:
    """What each (format, path, batches) gives in one fresh process that has no recops.

    Raises: ValueError with what that process said where it failed.
    """
    with tempfile.TemporaryDirectory(prefix="recops-") as folder:
        described: list[dict[str, Any]] = []
        for place, (format_, path, batches) in enumerate(jobs):
            pairs = [
                tuple(f"{folder}/{kind}-{place}-{i}.npz" for kind in ("in", "out"))
                for i in range(len(batches))
            ]
            for (inputs, _), batch in zip(pairs, batches):
                fresh.save(inputs, batch)
            described.append({"format": format_, "path": str(path), "batches": pairs})
        done = subprocess.run(
            [sys.executable, "-c", Path(fresh.__file__).read_text(encoding="utf-8")],
            input=json.dumps(described),
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            # No second process takes the memory of a GPU.
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"},
        )
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise ValueError(f"export: does not run without recops: {said[-1]}")
        return [[fresh.load(out) for _, out in job["batches"]] for job in described]


def difference(want: Batch, got: Batch) -> float:
    """The largest one, relative to the largest output; infinite where the forms differ."""
    if set(want) != set(got):
        return float("inf")
    return max(_apart(want[name], got[name]) for name in want)


def _apart(want: np.ndarray, got: np.ndarray) -> float:
    if want.shape != got.shape or want.dtype.kind != got.dtype.kind:
        return float("inf")
    if want.dtype.kind != "f":
        return 0.0 if np.array_equal(want, got) else float("inf")
    if not np.array_equal(np.isfinite(want), np.isfinite(got)):
        return float("inf")
    here = np.isfinite(want)
    if not here.any():
        return 0.0
    want, got = want[here].astype(np.float64), got[here].astype(np.float64)
    return float(np.max(np.abs(want - got)) / max(np.max(np.abs(want)), 1e-30))
