"""Attentional pooling with both sides of all pairs at once, for programs that are served."""

from __future__ import annotations

import tensorflow as tf

from recops._core.numerics import accumulate
from recops.ops.pairwise.pairs import left_right


@accumulate
def attentional_pooling(
    x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, projection: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    left, right = left_right(x)
    products = left * right  # [B, P, D]
    hidden = tf.nn.relu(tf.tensordot(products, kernel, 1) + bias)  # [B, P, A]
    weights = tf.nn.softmax(tf.tensordot(hidden, projection, 1), axis=1)  # [B, P]
    return tf.reduce_sum(weights[:, :, None] * products, axis=1), weights
