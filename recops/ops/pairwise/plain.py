"""Pairwise interactions with both sides of all pairs at once, for programs that are served."""

from __future__ import annotations

import tensorflow as tf

from recops._core.numerics import accumulate
from recops.ops.pairwise.pairs import left_right, upper, upper_take


@accumulate
def pairwise_inner(x: tf.Tensor) -> tf.Tensor:
    return upper_take(tf.matmul(x, x, transpose_b=True))


@accumulate
def pairwise_hadamard(x: tf.Tensor) -> tf.Tensor:
    left, right = left_right(x)
    return left * right


@accumulate
def bi_interaction(x: tf.Tensor) -> tf.Tensor:
    # Of pairs, and no difference of squares, whose digits would cancel.
    return tf.reduce_sum(pairwise_hadamard(x), axis=1)


@accumulate
def fm_interaction(x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(pairwise_inner(x), axis=1, keepdims=True)


@accumulate
def field_aware_interaction(x: tf.Tensor) -> tf.Tensor:
    fields = x.shape[1]
    products = x * tf.transpose(x, [0, 2, 1, 3])  # [B, F, F, D]
    kept = tf.constant(upper(fields)[:, :, None])
    products = tf.where(kept, products, tf.zeros([], x.dtype))
    return tf.reduce_sum(products, axis=[1, 2, 3])[:, None]
