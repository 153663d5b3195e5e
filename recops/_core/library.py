"""Finding a native library that fits: each has a manifest of what it was built for.

What must be equal: the TensorFlow, its C++ ABI, the kind of machine, and the sources. What the
processor must have are the flags that the manifest names. The compiler is in the manifest for
people to read; nothing is asked of one here.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from recops._core import compiler, cpu
from recops._core.cache import cache_dir

_PACKAGE = Path(__file__).resolve().parents[1]
SOURCES = _PACKAGE.parent / "recops_cc"
INSTALLED = _PACKAGE / "native"
LIBRARY = "librecops.so"
MANIFEST = "manifest.json"


class BuildError(RuntimeError):
    """There is no native library here and none can be built; the message says what to do."""


class LacksFlagsError(BuildError):
    """There is a library, and the processor cannot run it."""


@dataclass(frozen=True)
class Manifest:
    """What a library was built for.

    Args:
      tensorflow: its version.
      abi: which build of it, the compiler that made it, and the flags for its headers.
      machine: system and processor family.
      sources: hash of the C++ sources.
      flags: what the kernels were compiled with, whatever the processor.
      isa: the instruction set that was asked for, "native" for the builder's own.
      cpu_flags: what a processor must have, as /proc/cpuinfo says it.
      needs: libraries of TensorFlow that it is linked with.
      xla: whether functions with `jit_compile=True` can call it.
      compiler: its first words about itself.
      recops: the version.
    """

    tensorflow: str
    abi: str
    machine: str
    sources: str
    flags: str
    isa: str
    cpu_flags: tuple[str, ...]
    needs: tuple[str, ...]
    xla: bool
    compiler: str
    recops: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "cpu_flags": list(self.cpu_flags), "needs": list(self.needs)}

    def write(self, folder: Path) -> None:
        """Put it beside a library."""
        text = json.dumps(self.to_dict(), indent=2) + "\n"
        (folder / MANIFEST).write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """The manifest of a folder; None where there is none, or none that this recops reads."""
        try:
            found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            lists = {name: tuple(found[name]) for name in ("cpu_flags", "needs")}
            return cls(**{**found, **lists})
        except (OSError, ValueError, TypeError, KeyError):
            return None


@dataclass(frozen=True)
class Built:
    """A native library and what it was built for."""

    path: Path
    manifest: Manifest

    @property
    def xla(self) -> bool:
        """Whether jitted functions can call it."""
        return self.manifest.xla

    def describe(self) -> str:
        """Where it is, what it was built for, and what can call it."""
        calls = "also inside jit_compile=True" if self.xla else "but not inside jit_compile=True"
        return (
            f"{self.path} (for TensorFlow {self.manifest.tensorflow}, {self.manifest.isa} by "
            f"{self.manifest.compiler}; callable in graphs, {calls})"
        )


def native_cache() -> Path:
    """Where libraries are kept that were not installed with the package."""
    return cache_dir() / "native"


def wanted_isa() -> tuple[str, ...]:
    """RECOPS_ISA: the instruction sets to build for, and the only ones to load; () for any."""
    return tuple(os.environ.get("RECOPS_ISA", "").split())


def units() -> list[Path]:
    """Every unit that is compiled, in a fixed order."""
    return sorted(SOURCES.rglob("*.cc"))


def sources() -> str:
    """Hash of the C++ sources.

    Raises: BuildError where they are not installed.
    """
    found = units()
    if not found:
        raise BuildError(f"the C++ sources are not installed (expected in {SOURCES})")
    digest = hashlib.sha256()
    for path in sorted([*found, *SOURCES.rglob("*.h")]):
        digest.update(path.relative_to(SOURCES).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


@functools.cache
def abi() -> str:
    """What must be equal for C++ to call TensorFlow's: which build of it, and by what."""
    flags = [flag for flag in tf.sysconfig.get_compile_flags() if not flag.startswith("-I")]
    return ", ".join([tf.version.GIT_VERSION, tf.version.COMPILER_VERSION, *flags])


def here() -> dict[str, str]:
    """What a library must have been built for, but for the processor's flags."""
    return {
        "tensorflow": tf.__version__,
        "abi": abi(),
        "machine": f"{platform.system()} {cpu.machine()}",
        "sources": sources(),
        "flags": " ".join(compiler.kernel_flags()),
    }


def find(isa: str | None = None) -> Built | None:
    """The library that fits here and asks the most of the processor; None where there is none.

    Args:
      isa: the instruction set that it must be for; None is one of RECOPS_ISA, or any.

    Raises: LacksFlagsError where all that would fit need what the processor lacks.
      BuildError where the sources are not installed.
    """
    wanted, allowed = here(), (isa,) if isa else wanted_isa()
    fitting: list[Built] = []
    lacking: list[tuple[int, Built, list[str]]] = []
    for built in _all():
        if _differs(built.manifest, wanted, allowed) is not None:
            continue
        lacks = sorted(set(built.manifest.cpu_flags) - cpu.flags())
        if lacks:
            lacking.append((len(lacks), built, lacks))
        else:
            fitting.append(built)
    if fitting:
        return max(fitting, key=lambda built: len(built.manifest.cpu_flags))
    if lacking:
        _, built, lacks = min(lacking, key=lambda each: each[0])
        raise LacksFlagsError(
            f"the native library {built.path} was built for a processor with "
            f"{', '.join(lacks)}, which this one lacks; `recops build` makes one for this "
            f"processor, `recops build --isa x86-64-v3` one for a fleet"
        )
    return None


def why_none_fits() -> str | None:
    """What the libraries that were installed with the package were built for; None for none."""
    wanted = here()
    for built in _installed():
        if (differs := _differs(built.manifest, wanted, wanted_isa())) is not None:
            return f"the library installed with recops is for {differs}"
    return None


def _all() -> Iterator[Built]:
    yield from _installed()
    try:
        root = native_cache()
    except OSError:
        return
    yield from _in(root)


def _installed() -> Iterator[Built]:
    return _in(INSTALLED)


def _in(root: Path) -> Iterator[Built]:
    for path in sorted(root.glob(f"*/{LIBRARY}")):
        if (manifest := Manifest.read(path.parent)) is not None:
            yield Built(path, manifest)


def _differs(manifest: Manifest, wanted: dict[str, str], allowed: tuple[str, ...]) -> str | None:
    """In what a library is not for here, in words."""
    for name, value in wanted.items():
        if (built_for := getattr(manifest, name)) != value:
            if name == "sources":
                return "other sources"
            return f"{name} {built_for}, and not {value}"
    if allowed and manifest.isa not in allowed:
        return f"{manifest.isa}, and not {' or '.join(allowed)}"
    where = Path(tf.sysconfig.get_lib())
    absent = [name for name in manifest.needs if not (where / name).exists()]
    return f"a TensorFlow with {', '.join(absent)}" if absent else None
