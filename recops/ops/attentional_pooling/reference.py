"""Attentional pooling as the formulas stand, one Python loop over the pairs."""

from __future__ import annotations

import itertools

import tensorflow as tf

from recops._core.numerics import accumulate


@accumulate
def attentional_pooling(
    x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, projection: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    pairs = itertools.combinations(range(x.shape[1]), 2)
    products = tf.stack([x[:, i] * x[:, j] for i, j in pairs], axis=1)  # [B, P, D]
    hidden = tf.nn.relu(tf.tensordot(products, kernel, 1) + bias)  # [B, P, A]
    weights = tf.nn.softmax(tf.tensordot(hidden, projection, 1), axis=1)  # [B, P]
    return tf.reduce_sum(weights[:, :, None] * products, axis=1), weights
