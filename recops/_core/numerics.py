"""The two conventions that all XLA and reference paths share: how they compile and accumulate."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

_HALF = (tf.float16, tf.bfloat16)


def jit(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` as one XLA program; inside a jitted function it becomes part of the outer program."""
    return functools.wraps(fn)(tf.function(fn, jit_compile=True, autograph=False))


def widened(dtype: tf.DType) -> tf.DType:
    """The dtype to accumulate in: float32 for 16-bit types, else the dtype itself."""
    return tf.float32 if dtype in _HALF else dtype


def accumulate(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Run `fn` on tensors of at least 32 bits and cast what it returns back.

    All float arguments must have the dtype of the first; results are cast to it. Keyword arguments
    are static options and pass through.
    """

    @functools.wraps(fn)
    def wide(*args: Any, **options: Any) -> Any:
        dtype = next(a.dtype for a in tf.nest.flatten(args) if _is_float(a))
        if dtype not in _HALF:
            return fn(*args, **options)
        args = tf.nest.map_structure(lambda a: tf.cast(a, tf.float32) if _is_float(a) else a, args)
        results = fn(*args, **options)
        return tf.nest.map_structure(lambda r: tf.cast(r, dtype) if _is_float(r) else r, results)

    return wide


def _is_float(value: Any) -> bool:
    return isinstance(value, tf.Tensor) and value.dtype.is_floating
