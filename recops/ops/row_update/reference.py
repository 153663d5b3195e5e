"""The update as it stands in the papers: gradients summed by row, a step where there were any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from recops._core.numerics import widened
from recops.ops.embedding.rows import bag_rows


def row_update(
    table: Any,
    slots: Sequence[Any],
    ids: tf.Tensor,
    values: tf.Tensor,
    scalars: tf.Tensor,
    rule: str,
    catch_up: bool,
) -> list[tf.Tensor] | None:
    rows = tf.shape(table, ids.dtype)[0]
    ids = known_rows("row_update", ids, rows)
    kept = [tf.convert_to_tensor(array) for array in (table, *slots)]
    wide, *wide_slots, values = widened(*kept, values)
    g = tf.math.unsorted_segment_sum(values, ids, rows)
    used = tf.math.unsorted_segment_sum(tf.ones_like(ids), ids, rows) > 0
    moved = move(rule, wide, wide_slots, g, scalars, catch_up)
    new = [
        tf.where(_like(used, old), tf.cast(now, old.dtype), old) for old, now in zip(kept, moved)
    ]
    if not isinstance(table, tf.Variable):
        return new
    for variable, now in zip((table, *slots), new):
        variable.assign(now)
    return None


def row_sums(ids: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    count = tf.shape(ids)[0]
    (wide,) = widened(values)
    # How many ids are smaller: the same number for equal ids, and for them alone.
    group = tf.searchsorted(tf.sort(ids), ids)
    first = tf.gather(tf.math.unsorted_segment_min(tf.range(count), group, count), group)
    sums = tf.gather(tf.math.unsorted_segment_sum(wide, group, count), group)
    return tf.cast(tf.where(_like(first == tf.range(count), sums), sums, 0), values.dtype)


def known_rows(op: str, ids: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """The ids if all have a row, else an error, or where nothing can raise a row that is none."""
    found, valid = bag_rows(op, ids[:, None], rows)
    return tf.where(valid, found, tf.cast(rows, ids.dtype))[:, 0]


def move(
    rule: str,
    row: tf.Tensor,
    slots: Sequence[tf.Tensor],
    g: tf.Tensor,
    scalars: tf.Tensor,
    catch_up: bool,
) -> list[tf.Tensor]:
    """Rows [n, ...] and their slots after a step along g, all of one dtype but the last uses."""
    keep, *numbers = tf.unstack(tf.cast(scalars, row.dtype))
    row = keep * row
    if rule == "adam":
        alpha, share_1, share_2, epsilon, *_ = numbers
        m, v, *last = slots
        if catch_up:
            step = tf.cast(scalars[-1], last[0].dtype)
            missed = tf.where(last[0] > 0, tf.maximum(step - 1 - last[0], 0), 0)
            missed = _like(tf.cast(missed, row.dtype), row)
            beta_1, beta_2 = tf.unstack(tf.cast(1 - scalars[2:4], row.dtype))
            m, v = beta_1**missed * m, beta_2**missed * v
            last = [tf.fill(tf.shape(last[0]), step)]
        m += (g - m) * share_1
        v += (g * g - v) * share_2
        return [row - alpha * m / (tf.sqrt(v) + epsilon), m, v, *last]
    if rule == "adagrad":
        rate, epsilon = numbers
        total = slots[0] + g * g
        return [row - rate * g / tf.sqrt(total + epsilon), total]
    if rule == "rowwise_adagrad":
        rate, epsilon = numbers
        total = slots[0] + tf.reduce_mean(g * g, axis=list(range(1, g.shape.rank)))
        return [row - rate * g / tf.sqrt(_like(total, row) + epsilon), total]
    rate, power, l1, l2, beta = numbers
    total = slots[0] + g * g
    after = total**-power
    linear = slots[1] + g - (after - slots[0] ** -power) / rate * row
    clipped = tf.clip_by_value(linear, -l1, l1)
    return [(clipped - linear) / (after / rate + 2 * l2 + beta / rate), total, linear]


def _like(by_row: tf.Tensor, array: tf.Tensor) -> tf.Tensor:
    """[n] as [n, 1, ...], to go with an array of rows."""
    return tf.reshape(by_row, [-1, *[1] * (array.shape.rank - 1)])
