"""A library is found by what the machine has, not by what made it; one that does not fit is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tensorflow as tf

import recops
from recops._core import build, compiler, cpu, library, native

ROOT = Path(__file__).resolve().parents[2]
X86 = pytest.mark.skipif(cpu.machine() != "x86_64", reason="the instruction sets are of x86")
V4 = ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
V3 = ("avx2", "fma", "f16c", "bmi1", "bmi2", "movbe", "abm", "popcnt", "pni", "ssse3", "lahf_lm")
V3 += ("avx", "sse4_1", "sse4_2")


def _without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(compiler, "run", lambda command: pytest.fail("asked a compiler"))


def _has(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    monkeypatch.setattr(cpu, "flags", lambda: frozenset(flags))


def _change(built: library.Built, **values: object) -> None:
    replace(built.manifest, **values).write(built.path.parent)


def test_a_library_is_found_without_a_compiler(tiny: Path, monkeypatch) -> None:
    built = build.find_or_build()
    _without_compiler(monkeypatch)
    assert build.find_or_build() == library.find() == built


def test_another_compiler_builds_nothing_anew(tiny: Path, tmp_path: Path, monkeypatch) -> None:
    built = build.find_or_build()
    newer = tmp_path / "newer-g++"
    newer.write_text("#!/bin/sh\ncase $1 in --version) echo g++ 99;; *) exit 1;; esac\n")
    newer.chmod(0o755)
    monkeypatch.setenv("CXX", str(newer))
    assert build.find_or_build() == built


def test_another_processor_with_what_is_needed_builds_nothing_anew(tiny: Path, monkeypatch) -> None:
    built = build.find_or_build()
    _without_compiler(monkeypatch)
    _has(monkeypatch, *built.manifest.cpu_flags, "one_more")
    assert library.find() == built


def test_a_processor_that_lacks_what_is_needed_is_told_so(tiny: Path, monkeypatch, capfd) -> None:
    built = build.find_or_build()
    lacked = built.manifest.cpu_flags[-1]
    capfd.readouterr()
    _has(monkeypatch, *built.manifest.cpu_flags[:-1])
    monkeypatch.setattr(compiler, "run", lambda command: pytest.fail("built at first need"))
    monkeypatch.setattr(tf, "load_op_library", lambda path: pytest.fail("loaded"))
    said = f"was built for a processor with {lacked}, which this one lacks; `recops build` makes"
    for _ in range(2):
        assert recops.ops.select("fm_interaction", [[[1.0], [2.0]]]) == "xla"
        with pytest.raises(recops.BackendError, match=said):
            recops.ops.fm_interaction([[[1.0], [2.0]]], backend="cpp")
    assert said in recops.info().native
    assert capfd.readouterr().err.count(said) == 1


def test_a_build_that_is_asked_for_is_for_the_processor_here(tiny: Path, monkeypatch) -> None:
    first = build.find_or_build()
    kept = first.manifest.cpu_flags[:-1]
    _has(monkeypatch, *kept)
    second = build.find_or_build()
    assert second.path != first.path
    assert second.manifest.cpu_flags == kept
    assert library.find() == second


@X86
def test_the_library_that_asks_the_most_of_the_processor_is_taken(tiny: Path, monkeypatch) -> None:
    root = library.INSTALLED
    sets = ("x86-64-v3", "x86-64-v4", "x86-64-v4+avx512bf16")
    v3, v4, pairs = (build.build(isa, root=root) for isa in sets)
    assert set(v3.manifest.cpu_flags) == set(V3)
    assert set(v4.manifest.cpu_flags) == {*V3, *V4}
    assert set(pairs.manifest.cpu_flags) == {*V3, *V4, "avx512_bf16"}
    _without_compiler(monkeypatch)
    for flags, best in (
        ((*V3, *V4, "avx512_bf16", "amx_bf16"), pairs),
        ((*V3, *V4), v4),
        ((*V3, *V4[:-1]), v3),
        (V3, v3),
    ):
        _has(monkeypatch, *flags)
        assert library.find() == best
    _has(monkeypatch, *V3[1:])
    with pytest.raises(library.LacksFlagsError, match=r"x86-64-v3-.* with avx2, which this one"):
        library.find()


@X86
def test_recops_isa_says_what_is_built_and_loaded(tiny: Path, monkeypatch) -> None:
    native_one = build.find_or_build()
    monkeypatch.setenv("RECOPS_ISA", "x86-64-v3")
    assert library.find() is None
    portable = build.find_or_build()
    assert portable.manifest.isa == "x86-64-v3"
    assert library.find() == portable
    assert build.find_or_build(isa="native") == native_one
    monkeypatch.setenv("RECOPS_ISA", "x86-64-v99")
    with pytest.raises(build.BuildError, match=r"takes no -march=x86-64-v99 .*RECOPS_ISA names"):
        build.find_or_build()


def test_a_manifest_that_cannot_be_read_is_no_library(tiny: Path) -> None:
    built = build.find_or_build()
    manifest = built.path.parent / library.MANIFEST
    good = manifest.read_text()
    of_later = json.dumps({**json.loads(good), "of_later": 1})
    for broken in ("", "{", "[]", "{}", '{"tensorflow": "2"}', "null", "\x00", of_later):
        manifest.write_text(broken)
        assert library.find() is None, broken
    assert build.find_or_build() == built
    assert manifest.read_text() == good


def test_a_library_for_something_else_is_not_taken(tiny: Path) -> None:
    built = build.find_or_build()
    for name in ("tensorflow", "abi", "machine", "sources", "flags"):
        _change(built, **{name: "another"})
        assert library.find() is None, name
    _change(built)
    assert library.find() == built


def test_a_library_that_needs_what_this_tensorflow_has_not_is_not_taken(tiny: Path) -> None:
    built = build.find_or_build()
    _change(built, needs=("libtensorflow_framework.so.2", "libother.so.2"))
    assert library.find() is None


def test_why_an_installed_library_is_not_taken(tiny: Path, monkeypatch) -> None:
    built = build.build("native", root=library.INSTALLED)
    _change(built, tensorflow="1.15.0")
    _without_compiler(monkeypatch)
    assert native.why_not() == (
        "no C++ compiler: install g++ or clang++, or set CXX; the library installed with recops "
        f"is for tensorflow 1.15.0, and not {tf.__version__}"
    )


def test_info_shows_the_manifest(tiny: Path, monkeypatch) -> None:
    built = build.find_or_build()
    monkeypatch.setattr(native, "_state", None)
    monkeypatch.setattr(tf, "load_op_library", lambda path: object())
    found = recops.info()
    assert found.to_dict()["library"] == built.manifest.to_dict()
    assert json.loads(json.dumps(found.to_dict()))["library"]["compiler"]
    assert str(built.path) in str(found)
    assert "needs of the CPU: " + " ".join(built.manifest.cpu_flags) in str(found)


@pytest.mark.parametrize("system", ["Windows", "Darwin"])
def test_elsewhere_than_on_linux_it_is_not_built(system: str, tiny: Path, monkeypatch) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    assert native.why_not() == f"the native library is for Linux; this is {system}"
    assert recops.ops.select("fm_interaction", [[[1.0], [2.0]]]) == "xla"


def test_flags_of_a_processor_for_arm(monkeypatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert compiler.isa_flags("native") == ["-mcpu=native"]
    assert compiler.isa_flags("armv8.2-a+fp16") == ["-march=armv8.2-a+fp16"]
    macros = "#define __ARM_FEATURE_SVE 1\n#define __ARM_FEATURE_DOTPROD 1\n#define __ARM_NEON 1\n"
    assert cpu.needed(macros) == ["asimddp", "sve"]


def test_the_package_runs_where_there_is_neither_fcntl_nor_linux(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import platform, sys\n"
            # TensorFlow itself is that of Linux.
            "import tensorflow\n"
            "sys.modules['fcntl'] = None\n"
            "platform.system = lambda: 'Windows'\n"
            "import recops\n"
            "y = recops.ops.fm_interaction([[[1.0, 2.0], [3.0, 4.0]]])\n"
            "print(y.numpy(), recops.ops.select('fm_interaction', [[[1.0], [2.0]]]))\n"
            "print(recops.info().native)\n",
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), "RECOPS_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[[11.]] xla\nthe native library is for Linux; this is Windows\n"
