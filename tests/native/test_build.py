"""Building and caching the native library: what goes wrong, and that nothing half-made is left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import recops
from recops._core import build, compiler, library, native

ROOT = Path(__file__).resolve().parents[2]


def _script(sources: Path) -> str:
    return textwrap.dedent(f"""
        from pathlib import Path
        from recops._core import build, library
        library.SOURCES = Path({str(sources)!r})
        build._WHOLE = build._FRAMEWORK
        print(build.find_or_build().path)
    """)


def _start(sources: Path, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _script(sources)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_library_is_built_once_and_found_again(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert library.find() is None
    built = build.find_or_build()
    assert built.path.exists()
    assert built.xla
    said = capfd.readouterr().err
    assert "building the native library" in said
    assert "RECOPS_CPP=0" in said
    monkeypatch.setattr(compiler, "run", lambda command: pytest.fail("asked a compiler"))
    assert build.find_or_build() == built == library.find()
    assert "building" not in capfd.readouterr().err


def test_a_change_of_a_header_makes_another_library(tiny: Path) -> None:
    first = build.find_or_build().path
    (tiny / "unit" / "answer.h").write_text("#define ANSWER 43\n")
    second = build.find_or_build().path
    assert first != second
    assert first.exists()


def test_flags_of_the_caller_make_another_library(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = build.find_or_build()
    monkeypatch.setenv("RECOPS_CXXFLAGS", "-O1")
    assert library.find() is None
    added = build.find_or_build()
    assert added.manifest.flags == plain.manifest.flags + " -O1"
    monkeypatch.delenv("RECOPS_CXXFLAGS")
    assert library.find() == plain


def test_without_a_compiler(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(build.BuildError, match="CXX=no-such-compiler is not on the path"):
        build.find_or_build()
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(build.BuildError, match=r"install g\+\+ or clang\+\+, or set CXX"):
        build.find_or_build()


def test_an_error_of_the_compiler_keeps_its_log(tiny: Path) -> None:
    (tiny / "unit" / "kernel.cc").write_text("this is no C++\n")
    with pytest.raises(build.BuildError, match=r"failed on unit/kernel\.cc; its log is (\S+)") as e:
        build.find_or_build()
    log = Path(str(e.value).rsplit(" ", 1)[1])
    assert "error" in log.read_text()
    assert library.find() is None


def test_an_error_of_the_xla_unit_costs_jit_alone(tiny: Path) -> None:
    (tiny / "xla_calls.cc").write_text("#include <no/such/header.h>\n")
    built = build.find_or_build()
    assert not built.xla
    assert library.find() == built


def test_sources_that_are_missing(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(library, "SOURCES", tmp_path / "nowhere")
    with pytest.raises(build.BuildError, match="sources are not installed"):
        build.find_or_build()


def test_a_cache_that_cannot_be_written(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RECOPS_CACHE", str(tmp_path / "file"))
    with pytest.raises(build.BuildError, match="set RECOPS_CACHE to a folder with space"):
        build.find_or_build()


def test_a_full_disk(tiny: Path) -> None:
    # No file may grow past 1 KB: what a full disk does to a compiler's output.
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))\n"
    done = subprocess.run(
        [sys.executable, "-B", "-c", limited + _script(tiny)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "BuildError: " in done.stderr
    assert library.find() is None
    assert build.find_or_build().path.exists()


def test_several_processes_build_once(tiny: Path) -> None:
    runs = [_start(tiny) for _ in range(3)]
    ends = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], ends
    assert len({out for out, _ in ends}) == 1
    assert sum("building the native library" in err for _, err in ends) == 1


def test_a_build_that_is_killed_leaves_nothing_finished(tiny: Path, tmp_path: Path) -> None:
    started = tmp_path / "started"
    slow = tmp_path / "slow-g++"
    slow.write_text(
        f'#!/bin/sh\ncase "$*" in *-shared*) touch {started}; sleep 60;; esac\nexec g++ "$@"\n'
    )
    slow.chmod(0o755)
    run = _start(tiny, CXX=str(slow))
    for _ in range(600):
        if started.exists():
            break
        time.sleep(0.1)
    assert started.exists(), run.communicate()
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert not list((tmp_path / "cache").rglob(library.LIBRARY))
    # The lock of the dead process is free.
    assert build.find_or_build().path.exists()


def test_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOPS_CPP", "0")
    assert "RECOPS_CPP=0 switches the native library off" in (native.why_not() or "")


def test_a_question_alone_builds_nothing(tiny: Path) -> None:
    with native.without_building():
        assert "not built yet" in (native.why_not() or "")
    assert library.find() is None


def test_a_library_is_built_elsewhere_with_an_empty_cache(tiny: Path, tmp_path: Path) -> None:
    built = build.build("native", root=tmp_path / "package" / "native")
    assert built.path.parent.parent == tmp_path / "package" / "native"
    assert built.path.exists()
    kept = sorted((library.native_cache() / "objects").iterdir())
    assert [path.suffix for path in kept] == [".o"]


def test_a_failed_build_is_not_tried_again_and_its_log_is_named(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, broken = tmp_path / "calls", tmp_path / "broken-g++"
    broken.write_text(
        f'#!/bin/sh\ncase "$1" in -c) echo call >> {counted}; echo out of luck >&2; exit 1;; esac\n'
        'exec g++ "$@"\n'
    )
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    for _ in range(3):
        assert recops.ops.select("fm_interaction", [[[1.0], [2.0]]]) == "xla"
        with pytest.raises(
            recops.BackendError, match=r"failed on unit/kernel\.cc; its log is (\S+)"
        ):
            recops.ops.fm_interaction([[[1.0], [2.0]]], backend="cpp")
    assert counted.read_text() == "call\n"
    assert "failed on unit/kernel.cc; its log is" in recops.info().native

    # Another process tells as much, and tries again when it must.
    monkeypatch.setattr(native, "_state", None)
    found = recops.info()
    log = re.search(r"the last build did not succeed; its log is (\S+);", found.native)
    assert log is not None
    assert "out of luck" in Path(log[1]).read_text()
    assert found.native == found.ops["fm_interaction"]["cpp"]
    assert found.library is None
    assert counted.read_text() == "call\n"
    monkeypatch.setenv("CXX", "g++")
    build.find_or_build()
    assert not Path(log[1]).exists()
