"""The two conventions that all XLA and reference paths share: how they compile and accumulate."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

HALF = (tf.float16, tf.bfloat16)


def jit(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` as one XLA program; inside a jitted function it becomes part of the outer program."""
    return functools.wraps(fn)(tf.function(fn, jit_compile=True, autograph=False))


def jit_forward(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`jit` for the forward of a `tf.custom_gradient`, which tapes shall not look into.

    An eager tape that does makes the program return its intermediate results as well.
    """
    program = jit(fn)

    @functools.wraps(fn)
    def run(*args: Any) -> Any:
        return program(*tf.nest.map_structure(_unrecorded, args))

    return run


def _unrecorded(value: Any) -> Any:
    return tf.stop_gradient(value) if _is_float(value) else value


def accumulate(fn: Callable[..., Any], narrow: int | None = None) -> Callable[..., Any]:
    """Run `fn` on tensors of at least 32 bits and cast what it returns back.

    The first float argument decides. Of the results the first `narrow` are cast back to its dtype
    (None: all); the rest, such as statistics for a backward, stay wide. Keyword arguments are
    static options and pass through.
    """

    @functools.wraps(fn)
    def wide(*args: Any, **options: Any) -> Any:
        dtype = next(a.dtype for a in tf.nest.flatten(args) if _is_float(a))
        if dtype not in HALF:
            return fn(*args, **options)
        args = tf.nest.map_structure(lambda a: tf.cast(a, tf.float32) if _is_float(a) else a, args)
        results = fn(*args, **options)
        kept_wide = () if narrow is None else results[narrow:]
        results = results if narrow is None else results[:narrow]
        cast = tf.nest.map_structure(lambda r: tf.cast(r, dtype) if _is_float(r) else r, results)
        return cast if narrow is None else (*cast, *kept_wide)

    return wide


def widened(*tensors: tf.Tensor) -> list[tf.Tensor]:
    """Tensors of at least 32 bits, for a path that chooses itself what it keeps in 16."""
    return [tf.cast(t, tf.float32) if t.dtype in HALF else t for t in tensors]


def _is_float(value: Any) -> bool:
    return isinstance(value, tf.Tensor) and value.dtype.is_floating
