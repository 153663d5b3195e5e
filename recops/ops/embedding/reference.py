"""Lookups as one writes them first: a gather a field, a weighted sum a bag."""

from __future__ import annotations

import tensorflow as tf

from recops._core.numerics import accumulate
from recops.ops.embedding.rows import bag_rows, field_rows, poison


def embedding_lookup(table: tf.Tensor, ids: tf.Tensor, offsets: tf.Tensor) -> tf.Tensor:
    rows, valid = field_rows("embedding_lookup", ids, offsets, tf.shape(table)[0])
    fields = [tf.gather(table, rows[:, f]) for f in range(rows.shape[1])]
    return poison(tf.stack(fields, axis=1), valid)


def embedding_bag(
    table: tf.Tensor, ids: tf.Tensor, mask: tf.Tensor, weights: tf.Tensor | None, combiner: str
) -> tf.Tensor:
    rows, valid = bag_rows("embedding_bag", tf.where(mask, ids, 0), tf.shape(table)[0])
    bags = pool(tf.gather(table, rows), mask, weights, combiner)
    return poison(bags, tf.reduce_all(valid, axis=1))


@accumulate
def pool(values: tf.Tensor, mask: tf.Tensor, weights: tf.Tensor | None, combiner: str) -> tf.Tensor:
    """Bags [B, D] of values [B, T, D]."""
    zero = tf.zeros([], values.dtype)
    values = tf.where(mask[..., None], values, zero)  # [B, T, D]
    weights = tf.where(mask, tf.ones([], values.dtype) if weights is None else weights, zero)
    total = tf.reduce_sum(weights[..., None] * values, axis=1)  # [B, D]
    if combiner == "sum":
        return total
    if combiner == "mean":
        return tf.math.divide_no_nan(total, tf.reduce_sum(weights, axis=1, keepdims=True))
    squares = tf.reduce_sum(tf.square(weights), axis=1, keepdims=True)
    # The square root of an empty bag's zero has no gradient.
    norm = tf.sqrt(tf.where(squares > 0, squares, 1))
    return tf.where(squares > 0, total / norm, zero)
