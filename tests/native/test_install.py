"""What is installed where a compiler is runs where none is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import recops
from recops._core import native

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("recops", "recops_cc", "setup.py", "pyproject.toml", "README.md", "LICENSE")


def _run(*command: str | Path, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(native.why_not() is not None, reason=native.why_not() or "")
def test_site_packages_that_are_copied_away_from_the_compiler(tmp_path: Path) -> None:
    """As in an image of two stages."""
    tree, first, second = (tmp_path / name for name in ("tree", "first", "second"))
    tree.mkdir()
    # `pip` leaves files in the tree that it builds from.
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tree / name)
    build = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps"]
    # Objects that are compiled already are in the cache.
    env = {**os.environ, "PYTHONPATH": ""}
    _run(*build, "--no-build-isolation", "--target", first, tree, cwd=tmp_path, **env)
    first.rename(second)

    script = ROOT / "tests" / "native" / "without_compiler.py"
    cache = tmp_path / "cache"
    found = json.loads(
        _run(
            sys.executable,
            script,
            cwd=tmp_path,
            PYTHONPATH=str(second),
            PATH=str(tmp_path),
            RECOPS_CACHE=str(cache),
        )
    )
    assert found["isa"] == "native"
    here = {op for op, states in recops.info().ops.items() if states["cpp"] is not None}
    assert set(found["without_cpp"]) == here
    assert not cache.exists()
