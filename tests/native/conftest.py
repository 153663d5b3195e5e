"""A library that takes no minutes to build."""

from __future__ import annotations

from pathlib import Path

import pytest

from recops._core import build, library, native


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source tree of one small unit and a cache of its own; the folder of the sources."""
    sources = tmp_path / "sources"
    (sources / "unit").mkdir(parents=True)
    (sources / "unit" / "answer.h").write_text("#define ANSWER 42\n")
    (sources / "unit" / "kernel.cc").write_text(
        '#include "answer.h"\nextern "C" int answer() { return ANSWER; }\n'
    )
    monkeypatch.setattr(library, "SOURCES", sources)
    # The other one has a gigabyte, which a linker reads.
    monkeypatch.setattr(build, "_WHOLE", build._FRAMEWORK)
    monkeypatch.setattr(library, "INSTALLED", tmp_path / "installed")
    monkeypatch.setattr(native, "_state", None)
    monkeypatch.setenv("RECOPS_CACHE", str(tmp_path / "cache"))
    for name in ("RECOPS_CPP", "RECOPS_ISA", "RECOPS_CXXFLAGS"):
        monkeypatch.delenv(name, raising=False)
    return sources
