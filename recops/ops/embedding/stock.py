"""What a Keras user writes for lookups and bags today."""

from __future__ import annotations

import tensorflow as tf


def _lookup_by_field(
    table: tf.Tensor, ids: tf.Tensor, offsets: tf.Tensor | None = None
) -> tf.Tensor:
    """A table a field, as separate Embedding layers give it; the slices of one table stand in."""
    if offsets is None:
        return tf.stack([tf.gather(table, ids[:, f]) for f in range(ids.shape[1])], axis=1)
    ends = [*tf.unstack(offsets[1:]), tf.shape(table)[0]]
    tables = [table[start:end] for start, end in zip(tf.unstack(offsets), ends)]
    return tf.stack([tf.gather(t, ids[:, f]) for f, t in enumerate(tables)], axis=1)


def _lookup_by_offsets(
    table: tf.Tensor, ids: tf.Tensor, offsets: tf.Tensor | None = None
) -> tf.Tensor:
    return tf.gather(table, ids if offsets is None else ids + offsets)


def _bag_by_lookup(
    table: tf.Tensor,
    ids: tf.Tensor,
    mask: tf.Tensor | None = None,
    weights: tf.Tensor | None = None,
    combiner: str = "mean",
) -> tf.Tensor:
    values = tf.gather(table, ids)  # [B, T, D]
    weights = tf.ones(tf.shape(ids), values.dtype) if weights is None else weights
    if mask is not None:
        weights = weights * tf.cast(mask, values.dtype)
    total = tf.reduce_sum(values * weights[..., None], axis=1)
    if combiner == "sum":
        return total
    if combiner == "mean":
        return tf.math.divide_no_nan(total, tf.reduce_sum(weights, axis=1, keepdims=True))
    # Under the root one needs a guard: an empty bag's gradient would be NaN.
    squares = tf.reduce_sum(tf.square(weights), axis=1, keepdims=True)
    return total * tf.math.rsqrt(tf.maximum(squares, 1e-12))


FORMS = {
    "embedding_lookup": {"one_gather": _lookup_by_offsets, "gather_a_field": _lookup_by_field},
    "embedding_bag": {"lookup_multiply_sum": _bag_by_lookup},
}
