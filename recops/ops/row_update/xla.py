"""The update in one program: a sort of the ids, sums by segment, and a scatter of the rows moved.

All sizes are those of the batch. Variables are arguments of the program, so that XLA writes their
rows where they stand.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from recops._core.numerics import jit, widened
from recops.ops.row_update.reference import known_rows, move


def row_update(
    table: Any,
    slots: Sequence[Any],
    ids: tf.Tensor,
    values: tf.Tensor,
    scalars: tf.Tensor,
    rule: str,
    catch_up: bool,
) -> list[tf.Tensor] | None:
    ids = known_rows("row_update", ids, tf.shape(table, ids.dtype)[0])
    step = _kept_step if tf.executing_eagerly() else _step
    return step(rule, catch_up)([table, *slots], ids, values, scalars)


def row_sums(ids: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    return _row_sums(ids, values)


def _step(rule: str, catch_up: bool) -> Callable[..., Any]:
    """A program of its own for each place in a graph.

    A trace that is kept also serves other variables of the same shape, but a graph may not call it
    any more when the first ones are gone.
    """

    @jit
    def update(
        arrays: Sequence[Any], ids: tf.Tensor, values: tf.Tensor, scalars: tf.Tensor
    ) -> list[tf.Tensor] | None:
        rows = tf.shape(arrays[0], ids.dtype)[0]
        order, segments = _segments(ids)
        # One place a segment; those that are left over have no row, and XLA drops what they write.
        at = tf.tensor_scatter_nd_update(
            tf.fill(tf.shape(ids), rows), segments[:, None], tf.gather(ids, order)
        )
        g = _sums(values, order, segments)
        kept = [tf.gather(array, tf.minimum(at, rows - 1)) for array in arrays]
        moved = move(rule, *_row_and_slots(kept), g, scalars, catch_up)
        new = [tf.cast(now, old.dtype) for old, now in zip(kept, moved)]
        if not isinstance(arrays[0], tf.Variable):
            return [
                tf.tensor_scatter_nd_update(array, at[:, None], now)
                for array, now in zip(arrays, new)
            ]
        for array, now in zip(arrays, new):
            array.scatter_update(tf.IndexedSlices(now, at))
        return None

    return update


_kept_step = functools.cache(_step)


def _row_and_slots(kept: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
    row, *slots = widened(*kept)
    return row, slots


def _segments(ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The order that sorts ids, equal ones in their order, and the number of each distinct id."""
    order = tf.argsort(ids, stable=True)
    ids = tf.gather(ids, order)
    # Of no ids there is no first one either.
    first = tf.concat([tf.ones_like(ids[:1], tf.bool), ids[1:] != ids[:-1]], axis=0)
    return order, tf.cumsum(tf.cast(first, tf.int32)) - 1


def _sums(values: tf.Tensor, order: tf.Tensor, segments: tf.Tensor) -> tf.Tensor:
    (values,) = widened(values)
    return tf.math.unsorted_segment_sum(tf.gather(values, order), segments, tf.shape(order)[0])


@tf.custom_gradient
def _row_sums(ids: tf.Tensor, values: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
    @jit
    def forward(ids: tf.Tensor, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        order, segments = _segments(ids)
        # The sort is stable: the first of a segment is the first place of its id.
        first = tf.math.unsorted_segment_min(order, segments, tf.shape(ids)[0])
        places = tf.gather(first, segments)
        sums = tf.gather(_sums(values, order, segments), segments)
        sums = tf.where(_column(order == places, sums), sums, 0)
        inverse = tf.argsort(order)
        return tf.cast(tf.gather(sums, inverse), values.dtype), tf.gather(places, inverse)

    sums, first = forward(ids, tf.stop_gradient(values))
    return sums, lambda dy: (None, tf.gather(dy, first))


def _column(by_row: tf.Tensor, array: tf.Tensor) -> tf.Tensor:
    return tf.reshape(by_row, [-1, *[1] * (array.shape.rank - 1)])
