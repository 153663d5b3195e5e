"""What a run of the tests came to, for the README's table of versions."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from recops._core import compat


def keep(
    path: Path,
    args: Sequence[str],
    stats: Mapping[str, Sequence[Any]],
    started: float,
    ignored: Sequence[str] = (),
) -> None:
    """Add a row: the versions, which tests, how many passed, failed and were skipped."""
    tests = "all" if list(args) == ["tests"] else ", ".join(f"`{arg}`" for arg in args)
    if ignored:
        tests += f" but {', '.join(f'`{arg}`' for arg in ignored)}"
    counts = {name: len(stats.get(name, ())) for name in ("passed", "failed", "error", "skipped")}
    row = {
        "tf": tf.__version__,
        "keras": f"{compat.KERAS_VERSION} ({compat.legacy_keras()})",
        "python": platform.python_version(),
        "tests": tests,
        "passed": counts["passed"],
        "failed": counts["failed"] + counts["error"],
        "skipped": counts["skipped"],
        "seconds": round(time.time() - started),
    }
    with path.open("a") as f:
        f.write(json.dumps(row) + "\n")
