"""The bfloat16 kernels by pairs and without, where what the processor prefers hides them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _flags() -> set[str]:
    found = Path("/proc/cpuinfo")
    return set(found.read_text().split()) if found.exists() else set()


@pytest.mark.skipif("avx512_bf16" not in _flags(), reason="the kernels multiply float32 alone")
@pytest.mark.parametrize("pairs", ["0", "1"])
def test_kernels_without_tiles_keep_the_contract(pairs: str):
    ops = "dense or compressed_interaction or multi_head_attention"
    command = ["-m", "pytest", "-q", "-n", "0", "tests/ops/test_contract.py", "-k"]
    done = subprocess.run(
        [sys.executable, *command, f"cpp and bfloat16 and eager and ({ops})"],
        env={**os.environ, "RECOPS_AMX": "0", "RECOPS_PAIRS": pairs},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
