"""The native kernels give the same bits run to run and whatever the number of threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _digests(threads: int) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.native.digests", str(threads)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.needs("cpp")
def test_bits_do_not_depend_on_run_or_threads() -> None:
    one = _digests(1)
    assert len(one) > 8
    for threads in (2, 2, 8):
        other = _digests(threads)
        assert [name for name in one if one[name] != other[name]] == []
