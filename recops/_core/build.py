"""Builds the native library: sources and TensorFlow's headers in, one shared library out.

A library belongs to one TensorFlow, one compiler, one processor and one state of the sources; the
key of the four names its folder in the cache. It is built under another name and moved into place,
so that a killed build leaves nothing that looks finished.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

_PACKAGE = Path(__file__).resolve().parents[1]
SOURCES = _PACKAGE.parent / "recops_cc"
INSTALLED = _PACKAGE / "native"
LIBRARY = "librecops.so"

# Kernels are plain C++ and may use all that the processor has; what includes TensorFlow's headers
# keeps its flags, since the size of a vector register is part of their layout.
_KERNEL_FLAGS = [
    "-std=c++17",
    "-O3",
    "-march=native",
    "-mprefer-vector-width=512",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp-simd",
]
# Units with this ending have instructions besides, which the processor may lack: they ask it before
# they run any, and do without where the compiler knows none of them and so defines no __AMX_BF16__.
_UNIT_FLAGS = {"_amx.cc": ["-mamx-tile", "-mamx-bf16"]}
_TENSORFLOW_FLAGS = ["-O2", "-w"]
_COMMON_FLAGS = ["-fPIC", "-fvisibility=hidden"]
_XLA = SOURCES / "xla_calls.cc"


class BuildError(RuntimeError):
    """The native library cannot be built here; the message says why and what to do."""


@dataclass(frozen=True)
class Built:
    """A native library: `xla` says whether jitted functions can call it."""

    path: Path
    xla: bool

    def describe(self) -> str:
        """Where it is and what can call it."""
        calls = "also inside jit_compile=True" if self.xla else "but not inside jit_compile=True"
        return f"{self.path} (callable in graphs, {calls})"


def _added_flags() -> list[str]:
    """RECOPS_CXXFLAGS: what the kernels and the link shall have besides, a sanitizer for one."""
    return os.environ.get("RECOPS_CXXFLAGS", "").split()


def cache_root() -> Path:
    """Where libraries are kept: RECOPS_CACHE, else the user's cache folder."""
    named = os.environ.get("RECOPS_CACHE")
    if named:
        return Path(named) / "native"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recops" / "native"


def compiler() -> str:
    """The C++ compiler: CXX, else the first of g++, clang++ and c++ on the path."""
    named = os.environ.get("CXX")
    for name in (named,) if named else ("g++", "clang++", "c++"):
        found = shutil.which(name)
        if found:
            return found
    if named:
        raise BuildError(f"no C++ compiler: CXX={named} is not on the path")
    raise BuildError("no C++ compiler: install g++ or clang++, or set CXX")


@functools.cache
def _said(*command: str) -> str:
    """What a command prints, or nothing where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout


def isa(program: str) -> str:
    """What -march=native means to a compiler on this machine."""
    lines = _said(program, "-march=native", "-Q", "--help=target").splitlines()
    named = [line.split()[-1] for line in lines if line.split()[:1] == ["-march="]]
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="ascii") as f:
        flags = next((line for line in f if line.startswith("flags")), "")
        named.append(hashlib.sha256(flags.encode()).hexdigest()[:8])
    return "-".join(named) or platform.machine()


def _unit_flags(program: str, path: Path) -> list[str]:
    """What a unit is compiled with besides, where the compiler takes it."""
    for ending, flags in _UNIT_FLAGS.items():
        if path.name.endswith(ending) and _said(program, *flags, "-dM", "-E", "-xc++", os.devnull):
            return flags
    return []


def sources() -> list[Path]:
    """Every unit that is compiled, in a fixed order."""
    return sorted(SOURCES.rglob("*.cc"))


def _identity(program: str) -> bytes:
    """The TensorFlow, the compiler and the processor that a build is for."""
    compiler_version = _said(program, "--version").split("\n", 1)[0]
    return "\0".join(
        (tf.__version__, tf.version.GIT_VERSION, compiler_version, isa(program))
    ).encode()


def key(program: str) -> str:
    """What a library depends on, in one word."""
    digest = hashlib.sha256(_identity(program))
    digest.update(
        " ".join([*_KERNEL_FLAGS, *_added_flags(), *_TENSORFLOW_FLAGS, *_COMMON_FLAGS]).encode()
    )
    for path in sorted([*sources(), *SOURCES.rglob("*.h")]):
        digest.update(str(path.relative_to(SOURCES)).encode() + b"\0" + path.read_bytes() + b"\0")
    return f"tf{tf.__version__}-{digest.hexdigest()[:16]}"


def find() -> Built | None:
    """The library for this machine if it is in the cache.

    Raises: BuildError when none could be built either.
    """
    return _finished(_name(compiler()))


def _name(program: str) -> str:
    if not sources():
        raise BuildError(f"the C++ sources are not installed (expected in {SOURCES})")
    return key(program)


def find_or_build(*, root: Path | None = None, quiet: bool = False, rebuild: bool = False) -> Built:
    """The library for this machine, built if it is not there.

    Args:
      root: folder to build in; None is the cache.
      quiet: say nothing on stderr.
      rebuild: build even if it is there.

    Raises: BuildError, saying why and naming the compiler's log where there is one.
    """
    program = compiler()
    name = _name(program)
    if not rebuild and (found := _finished(name)):
        return found
    folder = (root or cache_root()) / name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.parent / f"{name}.lock"):
            # Another process may have built it while this one waited.
            if not rebuild and (found := _finished(name)):
                return found
            return _build(program, folder, quiet, rebuild)
    except OSError as error:
        raise BuildError(
            f"cannot write the native library to {folder}: {error.strerror or error}; "
            "set RECOPS_CACHE to a folder with space"
        ) from error


def _finished(name: str) -> Built | None:
    """A library built when the package was installed, or in the cache."""
    for folder in (INSTALLED / name, cache_root() / name):
        path = folder / LIBRARY
        if path.exists():
            return Built(path, (folder / "with-xla").exists())
    return None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    # The kernel gives the lock back when a process ends, however it ends.
    with path.open("w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def _build(program: str, folder: Path, quiet: bool, anew: bool) -> Built:
    begun = time.monotonic()
    if not quiet:
        print(
            f"recops: building the native library with {program} (once, about a minute; "
            "RECOPS_CPP=0 does without)",
            file=sys.stderr,
            flush=True,
        )
    log = folder.parent / f"{folder.name}.log"
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.") as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        with concurrent.futures.ThreadPoolExecutor(max(1, _processors())) as pool:
            # The longest first.
            units = sorted(sources(), key=lambda path: path != _XLA)
            jobs = {path: pool.submit(_compile, program, path, anew) for path in units}
            results = {path: job.result() for path, job in jobs.items()}
        log.write_text("".join(said for _, said in results.values()))
        failed = [path for path, (object_file, _) in results.items() if object_file is None]
        if set(failed) - {_XLA}:
            names = ", ".join(str(path.relative_to(SOURCES)) for path in failed)
            raise BuildError(f"the compiler failed on {names}; its log is {log}")
        objects = [str(o) for o, _ in results.values() if o is not None]
        linked = _run(
            [
                program,
                "-shared",
                *_added_flags(),
                *objects,
                "-o",
                str(made / LIBRARY),
                *_link_flags(failed),
            ]
        )
        if linked.returncode:
            log.write_text(log.read_text() + linked.stderr)
            raise BuildError(f"the linker failed; its log is {log}")
        if not failed:
            (made / "with-xla").touch()
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    if not quiet:
        print(f"recops: built in {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return Built(folder / LIBRARY, not failed)


def _compile(program: str, path: Path, anew: bool) -> tuple[Path | None, str]:
    """The object file of a unit, or None, and what the compiler said.

    Objects are kept: after a change of one kernel, the units that include TensorFlow's headers,
    which take most of the time, are still good.
    """
    if path.parent == SOURCES:
        flags = [*_TENSORFLOW_FLAGS, *tf.sysconfig.get_compile_flags()]
        flags.append(f"-I{SOURCES / 'common' / 'shims'}")
    else:
        flags = [*_KERNEL_FLAGS, *_unit_flags(program, path)]
        flags += [f"-I{tf.sysconfig.get_include()}", *_added_flags()]
    command = [program, "-c", *_COMMON_FLAGS, *flags, str(path)]
    digest = hashlib.sha256(_identity(program))
    digest.update(" ".join(command).encode())
    for read in _read_by(path):
        digest.update(b"\0" + read.read_bytes())
    kept = cache_root() / "objects" / f"{path.parent.name}-{path.stem}-{digest.hexdigest()[:16]}.o"
    if kept.exists() and not anew:
        return kept, ""
    kept.parent.mkdir(parents=True, exist_ok=True)
    # Beside the finished one: a file is moved into place within one file system alone.
    target = kept.with_name(f".{os.getpid()}-{kept.name}")
    done = _run([*command, "-o", str(target)])
    said = f"$ {' '.join(command)}\n{done.stdout}{done.stderr}"
    if done.returncode:
        target.unlink(missing_ok=True)
        return None, said
    target.replace(kept)
    return kept, said


def _read_by(path: Path) -> list[Path]:
    """A unit and the headers of ours that it includes, directly or not."""
    found = [path]
    for reader in found:
        for name in re.findall(r'^#include "(.+)"', reader.read_text(), re.MULTILINE):
            header = (reader.parent / name).resolve()
            if header.exists() and header not in found:
                found.append(header)
    return found


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _link_flags(failed: list[Path]) -> list[str]:
    where = tf.sysconfig.get_lib()
    flags = [f"-L{where}", "-l:libtensorflow_framework.so.2"]
    # What XLA needs is in the other library, which only some wheels have.
    return flags if failed else [*flags, "-l:libtensorflow_cc.so.2"]


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
