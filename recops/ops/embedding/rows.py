"""From ids to table rows: ids that have no row raise, or where nothing can raise become NaN.

To raise is a matter of the host. A GPU would wait for it in every step, so that a graph that is
made for one does not: there, as inside XLA, ids that have no row become NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core import device, dispatch


def field_rows(
    op: str, ids: tf.Tensor, offsets: tf.Tensor, rows: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Row of each id and whether it has one, two [B, F]; a field ends where the next begins.

    Without that end an id beyond its field's vocabulary would read the next field's rows.
    """
    offsets = tf.cast(offsets, ids.dtype)
    rows = tf.cast(rows, ids.dtype)
    ends = tf.reduce_min(tf.where(offsets > offsets[:, None], offsets, rows), axis=1)
    return _checked(op, ids, ends - offsets, ids + offsets)


def bag_rows(op: str, ids: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Row of each id and whether it has one, two [B, T]."""
    return _checked(op, ids, tf.cast(rows, ids.dtype)[None], ids)


def _checked(
    op: str, ids: tf.Tensor, sizes: tf.Tensor, rows: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    valid = (ids >= 0) & (ids < sizes)
    all_valid = tf.reduce_all(valid)
    if tf.executing_eagerly():
        if not all_valid:
            raise tf.errors.InvalidArgumentError(None, None, _sentence(op, ids, sizes, valid))
        return rows, valid
    if device.kind() == "GPU" and not dispatch.is_serving():
        return tf.where(valid, rows, 0), valid
    # XLA drops the assertion: there the rows of invalid ids are poisoned by the caller instead.
    with tf.control_dependencies([tf.cond(all_valid, lambda: True, lambda: _fail(op, ids, sizes))]):
        return tf.where(valid, rows, 0), valid


def _first_invalid(ids: tf.Tensor, sizes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The first id without a row, its column, and the rows that the column has."""
    invalid = (ids < 0) | (ids >= sizes)
    # One more of each at the end: XLA compiles this branch for empty ids as well.
    flags = tf.pad(tf.reshape(tf.cast(invalid, tf.int32), [-1]), [[0, 1]])
    flat = tf.argmax(flags, output_type=tf.int32)
    column = flat % tf.maximum(tf.shape(ids)[1], 1)
    sizes = tf.pad(tf.broadcast_to(sizes, tf.shape(ids)[1:]), [[0, 1]])
    return (
        tf.gather(tf.pad(tf.reshape(ids, [-1]), [[0, 1]]), flat),
        column,
        tf.gather(sizes, column),
    )


def _sentence(op: str, ids: tf.Tensor, sizes: tf.Tensor, valid: tf.Tensor) -> str:
    value, column, size = (int(t) for t in _first_invalid(ids, sizes))
    return (
        f"{op}: id {value} in column {column} of ids {list(ids.shape)} has no row: "
        f"the table has {size} rows there, so ids run 0..{size - 1}"
    )


def _fail(op: str, ids: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
    value, column, size = _first_invalid(ids, sizes)
    said = [f"{op}: id", value, "in column", column, "has no row: rows of the table there:", size]
    with tf.control_dependencies([tf.debugging.Assert(False, said)]):
        return tf.constant(False)


def poison(values: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """NaN where an id had no row, so that a jitted step, which cannot raise, cannot hide it."""
    return values if tf.executing_eagerly() else _poison(values, valid)


@tf.custom_gradient
def _poison(values: tf.Tensor, valid: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
    def poisoned() -> tf.Tensor:
        return tf.where(valid[..., None], values, tf.constant(float("nan"), values.dtype))

    # On a GPU the select joins the gather's kernel and a branch would wait for the host; on a CPU
    # the select is another pass over the values and the branch costs nothing.
    branch = device.form(gpu=False, cpu=True)
    result = tf.cond(tf.reduce_all(valid), lambda: values, poisoned) if branch else poisoned()
    # What comes back from a NaN is NaN already: no second pass over it.
    return result, lambda dy: (dy, None)
