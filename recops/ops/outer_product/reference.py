"""The outer product layer as the formula stands."""

from __future__ import annotations

import tensorflow as tf

from recops._core.numerics import accumulate


@accumulate
def outer_product(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    total = tf.reduce_sum(x, axis=1)  # [B, D]
    products = total[:, :, None] * total[:, None, :]  # [B, D, D]
    return tf.einsum("bde,ude->bu", products, kernel)
