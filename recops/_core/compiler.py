"""The C++ compiler: which one, and what it is told."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess

from recops._core import cpu

# Kernels are plain C++ and may use all that a processor has; what includes TensorFlow's headers
# keeps its flags, since the size of a vector register is part of their layout.
_KERNEL_FLAGS = ["-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd"]
_COMMON_FLAGS = ["-fPIC", "-fvisibility=hidden"]
TENSORFLOW_FLAGS = [*_COMMON_FLAGS, "-O2", "-w"]


class NoCompilerError(RuntimeError):
    """No compiler was found; the message says what to install."""


def find() -> str:
    """CXX, else the first of g++, clang++ and c++ on the path.

    Raises: NoCompilerError.
    """
    named = os.environ.get("CXX")
    for name in (named,) if named else ("g++", "clang++", "c++"):
        if found := shutil.which(name):
            return found
    if named:
        raise NoCompilerError(f"no C++ compiler: CXX={named} is not on the path")
    raise NoCompilerError("no C++ compiler: install g++ or clang++, or set CXX")


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run it to its end; the caller looks at how it ended."""
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


@functools.cache
def _said(*command: str) -> str:
    return run([*command]).stdout


def version(program: str) -> str:
    """The first line that a compiler says of itself."""
    return _said(program, "--version").split("\n", 1)[0]


def macros(program: str, *flags: str) -> str:
    """What a compiler defines by itself with these flags; nothing where it takes them not."""
    return _said(program, *flags, "-dM", "-E", "-xc++", os.devnull)


def added_flags() -> list[str]:
    """RECOPS_CXXFLAGS: what the kernels and the link shall have besides, a sanitizer for one."""
    return os.environ.get("RECOPS_CXXFLAGS", "").split()


def kernel_flags() -> list[str]:
    """What every kernel is compiled with, whatever the processor."""
    return [*_COMMON_FLAGS, *_KERNEL_FLAGS, *added_flags()]


def isa_flags(isa: str) -> list[str]:
    """The flags for "native" or a named instruction set, such as "x86-64-v4+avx512bf16"."""
    if cpu.machine() != "x86_64":
        # -march=native is no word of every compiler for ARM.
        return ["-mcpu=native"] if isa == "native" else [f"-march={isa}"]
    base, *more = isa.split("+")
    extensions = [f"-m{extension}" for extension in more]
    return [f"-march={base}", *extensions, "-mprefer-vector-width=512"]
