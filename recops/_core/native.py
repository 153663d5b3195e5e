"""The native (C++) library: loading it once, calling its ops, saying why it is not there."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import tensorflow as tf

from recops._core import build, compat, library

_NOT_BUILT = "not built yet: `recops build` or the first call of an op does it"

_lock = threading.Lock()
_state: _Loaded | str | None = None
_may_build: ContextVar[bool] = ContextVar("recops_may_build", default=True)


class _Loaded:
    def __init__(self, built: library.Built) -> None:
        self.built = built
        self.ops = tf.load_op_library(str(built.path))


def why_not(jit: bool | None = None) -> str | None:
    """None when the library can be called here, else the reason and its remedy.

    The first question builds the library where it is missing and a compiler is there. Inside a
    jitted function the answer may differ: there XLA must know the ops as well. `jit` asks for one
    or the other from anywhere.
    """
    loaded = _load()
    if isinstance(loaded, str):
        return loaded
    if not loaded.built.xla and (compat.tracing_for_xla() if jit is None else jit):
        return (
            "the native library has no XLA calls for this TensorFlow; use backend 'xla' or "
            "'auto' inside jit_compile=True"
        )
    return None


@contextlib.contextmanager
def without_building() -> Iterator[None]:
    """Questions inside the block are answered from what is there; nothing is built."""
    token = _may_build.set(False)
    try:
        yield
    finally:
        _may_build.reset(token)


def describe() -> str:
    """One sentence on the library: where it is, or why there is none."""
    loaded = _load()
    return loaded if isinstance(loaded, str) else loaded.built.describe()


def manifest() -> dict[str, Any] | None:
    """What the library was built for, as plain data; None where there is none."""
    loaded = _load()
    return None if isinstance(loaded, str) else loaded.built.manifest.to_dict()


def call(op: str, *inputs: Any, options: Sequence[int] = ()) -> Any:
    """Run a native op by its C++ name; one tensor, or a tuple of them."""
    loaded = _load()
    if isinstance(loaded, str):
        raise RuntimeError(f"native op {op} called without the library: {loaded}")
    name = "recops_" + re.sub(r"(?<!^)(?=[A-Z])", "_", op).lower()
    return getattr(loaded.ops, name)(*inputs, options=list(options))


@tf.autograph.experimental.do_not_convert
def _load() -> _Loaded | str:
    """The library, or why there is none; asked once, but that RECOPS_CPP=0 counts at any time."""
    if os.environ.get("RECOPS_CPP") == "0":
        return "RECOPS_CPP=0 switches the native library off; unset it to switch it on"
    global _state
    with _lock:
        if _state is None:
            try:
                found = library.find()
                if found is None:
                    if not _may_build.get():
                        return build.failed_before() or _NOT_BUILT
                    found = build.find_or_build()
                _state = _Loaded(found)
            except library.LacksFlagsError as error:
                _state = str(error)
                # What was made for this place is not used: that shall not go unseen.
                if _may_build.get():
                    print(f"recops: {error}", file=sys.stderr, flush=True)
            except library.BuildError as error:
                _state = str(error)
            except (tf.errors.OpError, OSError) as error:
                _state = f"the native library cannot be loaded: {error}; try `recops build`"
        return _state
