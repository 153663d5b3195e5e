"""The runner of the tests for a GPU: what it says without one, and that its tests exist."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import on_gpu


def test_without_a_gpu_it_says_so_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(on_gpu, "sees_a_gpu", lambda: False)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("ran a test"))
    assert on_gpu.main([]) == 2
    assert capsys.readouterr().err.startswith("on_gpu: TensorFlow sees no GPU here.")


@pytest.mark.parametrize("part", ["OPS", "REST"])
def test_all_that_it_names_is_collected(part: str) -> None:
    command = [sys.executable, "-m", "pytest", "-n", "0", "--collect-only", "-q"]
    found = subprocess.run(
        [*command, *getattr(on_gpu, part)], cwd=on_gpu.ROOT, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout + found.stderr
    for name in (word for word in on_gpu.REST if part == "REST" and "::" in word):
        assert f"{name}[" in found.stdout or f"{name}\n" in found.stdout
