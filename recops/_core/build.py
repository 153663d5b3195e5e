"""Builds the native library: sources and TensorFlow's headers in, one shared library out.

It is built under another name and moved into place, so that a killed build leaves nothing that
looks finished.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from recops._core import compiler, cpu, library
from recops._core.cache import VARIABLE
from recops._core.library import LIBRARY, BuildError, Built, LacksFlagsError, Manifest
from recops.version import __version__

_XLA = "xla_calls.cc"
_FRAMEWORK = "libtensorflow_framework.so.2"
# What XLA needs is in another library, which only some wheels have.
_WHOLE = "libtensorflow_cc.so.2"


def find_or_build(*, isa: str | None = None, rebuild: bool = False) -> Built:
    """The library for this machine, built into the cache if there is none that fits.

    Args:
      isa: instruction set to build for; None is the first of RECOPS_ISA, else "native".
      rebuild: build even if it is there.

    Raises: BuildError, saying why and naming the compiler's log where there is one.
    """
    if not rebuild:
        with contextlib.suppress(LacksFlagsError):
            if found := library.find(isa):
                return found
    return build(isa or next(iter(library.wanted_isa()), "native"), rebuild=rebuild)


def build(isa: str, *, root: Path | None = None, rebuild: bool = False) -> Built:
    """Build a library, unless another process did while this one waited for its turn.

    Args:
      isa: the instruction set, as a compiler names it, or "native".
      root: folder of the caller's own to build in; None is the cache.
      rebuild: build even if it is there, and compile what is unchanged too.

    Raises: BuildError, saying why and naming the compiler's log where there is one.
    """
    plan = _Plan.of(isa, root)
    try:
        plan.folder.parent.mkdir(parents=True, exist_ok=True)
        plan.log.parent.mkdir(parents=True, exist_ok=True)
        with _turn(plan.folder) if root is None else contextlib.nullcontext():
            if not rebuild and (manifest := Manifest.read(plan.folder)):
                return Built(plan.folder / LIBRARY, manifest)
            return _build(plan, rebuild)
    # Some file systems have no locks.
    except (OSError, NotImplementedError) as error:
        raise BuildError(
            f"cannot write the native library to {plan.folder}: "
            f"{getattr(error, 'strerror', None) or error}; set {VARIABLE} to a folder with space"
        ) from error


def _turn(folder: Path) -> contextlib.AbstractContextManager[Any]:
    """Held by one process at a time; it is free again when that process ends, however it ends."""
    # An install builds where the packages that recops requires need not be yet.
    import filelock

    return filelock.FileLock(f"{folder}.lock")


def failed_before() -> str | None:
    """A sentence on the last build for this machine where it failed, in whatever process."""
    with contextlib.suppress(OSError):
        log = _log(_name(next(iter(library.wanted_isa()), "native")))
        if log.exists():
            return f"the last build did not succeed; its log is {log}; `recops build` tries again"
    return None


@dataclass(frozen=True)
class _Plan:
    program: str
    isa: str
    isa_flags: list[str]
    macros: str
    folder: Path
    # There only while a build runs and after one that failed.
    log: Path

    @classmethod
    def of(cls, isa: str, root: Path | None) -> _Plan:
        name = _name(isa)
        if platform.system() != "Linux":
            raise BuildError(f"the native library is for Linux; this is {platform.system()}")
        try:
            program = compiler.find()
        except compiler.NoCompilerError as error:
            said = [str(error), library.why_none_fits()]
            raise BuildError("; ".join(filter(None, said))) from None
        flags = compiler.isa_flags(isa)
        if not (macros := compiler.macros(program, *flags)):
            raise BuildError(
                f"{program} ({compiler.version(program)}) takes no {' '.join(flags)}; "
                f"`recops build --isa ISA` or RECOPS_ISA names another instruction set"
            )
        try:
            folder = (root or library.native_cache()) / name
            return cls(program, isa, flags, macros, folder, _log(name))
        except OSError as error:
            raise BuildError(str(error)) from error

    def manifest(self, xla: bool) -> Manifest:
        needed = cpu.needed(self.macros)
        if self.isa == "native":
            # Of an instruction that the system does not list, nobody can be told that it is there.
            needed = sorted({*needed} & cpu.flags())
        return Manifest(
            **library.here(),
            isa=self.isa,
            cpu_flags=tuple(needed),
            needs=(_FRAMEWORK, _WHOLE) if xla else (_FRAMEWORK,),
            xla=xla,
            compiler=compiler.version(self.program),
            recops=__version__,
        )

    def command(self, path: Path) -> list[str]:
        """What compiles a unit, but for where to."""
        if path.parent == library.SOURCES:
            flags = [*compiler.TENSORFLOW_FLAGS, *tf.sysconfig.get_compile_flags()]
            flags.append(f"-I{library.SOURCES / 'common' / 'shims'}")
        else:
            flags = [*compiler.kernel_flags(), *self.isa_flags]
            flags.append(f"-I{tf.sysconfig.get_include()}")
        return [self.program, "-c", *flags, str(path)]


def _name(isa: str) -> str:
    """What a library is called; no compiler is asked, so that a failed build is found again."""
    parts = [*library.here().values(), isa]
    if isa == "native":
        parts += sorted(cpu.flags())
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return f"tf{tf.__version__}-{isa}-{digest[:16]}"


def _log(name: str) -> Path:
    return library.native_cache() / f"{name}.log"


def _build(plan: _Plan, anew: bool) -> Built:
    begun = time.monotonic()
    print(
        f"recops: building the native library with {plan.program} (once, about a minute; "
        "RECOPS_CPP=0 does without)",
        file=sys.stderr,
        flush=True,
    )
    folder = plan.folder
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.") as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        manifest = _compile_and_link(plan, made / LIBRARY, anew)
        manifest.write(made)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    plan.log.unlink(missing_ok=True)
    print(f"recops: built in {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return Built(folder / LIBRARY, manifest)


def _compile_and_link(plan: _Plan, target: Path, anew: bool) -> Manifest:
    xla_unit = library.SOURCES / _XLA
    with concurrent.futures.ThreadPoolExecutor(max(1, _processors())) as pool:
        # The longest first.
        units = sorted(library.units(), key=lambda path: path != xla_unit)
        jobs = {path: pool.submit(_compile, plan, path, anew) for path in units}
        results = {path: job.result() for path, job in jobs.items()}
    plan.log.write_text("".join(said for _, said in results.values()), encoding="utf-8")
    failed = [path for path, (object_file, _) in results.items() if object_file is None]
    if set(failed) - {xla_unit}:
        names = ", ".join(str(path.relative_to(library.SOURCES)) for path in failed)
        raise BuildError(f"the compiler failed on {names}; its log is {plan.log}")
    manifest = plan.manifest(xla=not failed)
    objects = [str(o) for o, _ in results.values() if o is not None]
    command = [plan.program, "-shared", *compiler.added_flags(), *objects, "-o", str(target)]
    command += [f"-L{tf.sysconfig.get_lib()}", *(f"-l:{name}" for name in manifest.needs)]
    linked = compiler.run(command)
    if linked.returncode:
        with plan.log.open("a", encoding="utf-8") as log:
            log.write(linked.stderr)
        raise BuildError(f"the linker failed; its log is {plan.log}")
    return manifest


def _compile(plan: _Plan, path: Path, anew: bool) -> tuple[Path | None, str]:
    """The object file of a unit, or None, and what the compiler said.

    Objects are kept: after a change of one kernel, the units that include TensorFlow's headers,
    which take most of the time, are still good; and they are the same for every instruction set.
    """
    command = plan.command(path)
    unit = path.relative_to(library.SOURCES).as_posix()
    # Where the sources and TensorFlow lie makes no difference.
    flags = [word for word in command[1:-1] if not word.startswith("-I")]
    words = [library.abi(), compiler.version(plan.program), unit, *flags]
    digest = hashlib.sha256("\0".join(words).encode())
    if path.parent != library.SOURCES:
        # The same words mean another thing on another processor: -march=native.
        digest.update(plan.macros.encode())
    for read in _read_by(path):
        digest.update(b"\0" + read.read_bytes())
    name = f"{path.parent.name}-{path.stem}-{digest.hexdigest()[:16]}.o"
    kept = library.native_cache() / "objects" / name
    if kept.exists() and not anew:
        return kept, ""
    kept.parent.mkdir(parents=True, exist_ok=True)
    # Beside the finished one: a file is moved into place within one file system alone.
    target = kept.with_name(f".{os.getpid()}-{kept.name}")
    done = compiler.run([*command, "-o", str(target)])
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


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
