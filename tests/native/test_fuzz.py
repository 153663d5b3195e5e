"""The native ops take any call without harm; `make fuzz` makes more of them, with a sanitizer."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from recops._core import native

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(native.why_not() is not None, reason="there is no native library")
def test_a_wrong_call_is_refused_and_never_ends_the_process():
    done = subprocess.run(
        [sys.executable, "-m", "tests.native.fuzz", "--calls", "3000", "--seed", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.replace("\r", "\n")[-2000:]
    found = re.search(r"^all +(\d+) ran +(\d+) refused", done.stdout, re.MULTILINE)
    ran, refused = map(int, found.groups())
    assert ran + refused == 3000
    assert min(ran, refused) > 300, done.stdout
