"""Argument checks whose messages say what was asked, what came and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from recops._core import compat

FLOATS = (tf.float16, tf.bfloat16, tf.float32, tf.float64)
INTS = (tf.int32, tf.int64)


def floats(
    op: str, name: str, value: Any, axes: str | None, dtype: tf.DType | None = None
) -> tf.Tensor:
    """`value` as a floating tensor with the axes of `axes`, e.g. "B F D" (None: any shape).

    Python numbers and lists become float32 (or `dtype`); a tensor or array keeps its dtype.
    An axis written as a number must have that size.

    Raises: ValueError for a wrong rank, size or dtype.
    """
    if isinstance(value, (list, tuple, int, float)):
        value = np.asarray(value, np.float32 if dtype is None else dtype.as_numpy_dtype)
    tensor = compat.as_tensor(value)
    if tensor.dtype not in FLOATS:
        raise ValueError(
            f"{op}: {name} must be a float tensor [{_commas(axes or '...')}], got dtype "
            f"{tensor.dtype.name} with shape {describe(tensor)}; cast it first"
        )
    if dtype is not None and tensor.dtype != dtype:
        raise ValueError(
            f"{op}: {name} must have dtype {dtype.name} like the first argument, got "
            f"{tensor.dtype.name} with shape {describe(tensor)}; cast one of them"
        )
    return tensor if axes is None else shape(op, name, tensor, axes)


def ids(op: str, name: str, value: Any, axes: str) -> tf.Tensor:
    """`value` as an int32 or int64 tensor with the axes of `axes`."""
    if isinstance(value, (list, tuple, int)):
        value = np.asarray(value)
    tensor = compat.as_tensor(value)
    if tensor.dtype not in INTS:
        raise ValueError(
            f"{op}: {name} must be int32 or int64 ids [{_commas(axes)}], got dtype "
            f"{tensor.dtype.name} with shape {describe(tensor)}"
        )
    return shape(op, name, tensor, axes)


def table(op: str, name: str, value: Any, axes: str = "R D") -> Any:
    """`value` as an embedding table: a variable stays one, so that it is read by rows."""
    found = compat.variable(value)
    if not isinstance(found, tf.Variable):
        return floats(op, name, found, axes)
    if tf.as_dtype(found.dtype) not in FLOATS or found.shape.rank != len(axes.split()):
        raise ValueError(
            f"{op}: {name} must be a float variable [{_commas(axes)}], got dtype "
            f"{tf.as_dtype(found.dtype).name} with shape {describe(found)}"
        )
    return shape(op, name, found, axes)


def mask(op: str, name: str, value: Any, axes: str) -> tf.Tensor:
    """`value` as a bool tensor, True = keep."""
    tensor = compat.as_tensor(value)
    if tensor.dtype != tf.bool:
        raise ValueError(
            f"{op}: {name} must be bool [{_commas(axes)}], True = keep, got dtype "
            f"{tensor.dtype.name} with shape {describe(tensor)}"
        )
    return shape(op, name, tensor, axes)


def shape(op: str, name: str, tensor: tf.Tensor, axes: str) -> tf.Tensor:
    """`tensor` if its static shape fits `axes`; letters fit any size, numbers only their own."""
    want = axes.split()
    rank = tensor.shape.rank
    fits = rank is None or (
        rank == len(want)
        and all(
            not axis.isdigit() or size is None or size == int(axis)
            for axis, size in zip(want, tensor.shape)
        )
    )
    if not fits:
        raise ValueError(f"{op}: {name} must have shape [{_commas(axes)}], got {describe(tensor)}")
    return tensor


def sizes(tensor: tf.Tensor, *axes: int) -> str:
    """Static sizes of some axes in the form that `shape` takes, a letter where unknown."""
    known = [tensor.shape[axis] for axis in axes]
    return " ".join("?" if size is None else str(size) for size in known)


def static(op: str, name: str, tensor: tf.Tensor, axis: int, letter: str) -> int:
    """The static size of an axis that the op unrolls over."""
    size = None if tensor.shape.rank is None else tensor.shape[axis]
    if size is None:
        raise ValueError(
            f"{op}: {name} must have a static size {letter} on axis {axis}, got "
            f"{describe(tensor)}; set it with tf.ensure_shape"
        )
    return int(size)


def fields(op: str, name: str, value: Any, minimum: int = 2) -> tf.Tensor:
    """`value` as embeddings [B, F, D] with static F >= `minimum` and D."""
    tensor = floats(op, name, value, "B F D")
    count = static(op, name, tensor, 1, "F")
    static(op, name, tensor, 2, "D")
    if count < minimum:
        raise ValueError(
            f"{op}: {name} must have at least {minimum} fields on axis 1, got {describe(tensor)}"
        )
    return tensor


def choice(op: str, name: str, value: Any, allowed: Sequence[str]) -> str:
    """`value` if it is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{op}: {name} must be one of {', '.join(allowed)}, got {value!r}")
    return value


def _commas(axes: str) -> str:
    return ", ".join(axes.split())


def describe(tensor: tf.Tensor) -> str:
    """The static shape in words, `?` for an unknown size."""
    if tensor.shape.rank is None:
        return "[unknown rank]"
    return "[" + ", ".join("?" if size is None else str(size) for size in tensor.shape) + "]"
