"""The outer product layer as one GEMM a direction, backward by hand.

Of 16-bit inputs the sum over the fields and its products are float32, and rounded for the GEMM.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from recops._core.numerics import jit, jit_forward, widened
from recops._core.products import matmul


@tf.custom_gradient
def outer_product(
    x: tf.Tensor, kernel: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
    return _forward(x, kernel), lambda dy: _backward(x, kernel, dy)


def _flat(kernel: tf.Tensor) -> tf.Tensor:
    return tf.reshape(kernel, [-1, kernel.shape[1] * kernel.shape[2]])  # [U, D * D]


def _total(x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(*widened(x), axis=1)  # [B, D]


def _products(total: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    dim = total.shape[1]
    outer = tf.cast(total[:, :, None] * total[:, None, :], dtype)
    return tf.reshape(outer, [-1, dim * dim])


@jit_forward
def _forward(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    outer = _products(_total(x), x.dtype)
    return matmul(outer, _flat(kernel), transpose_b=True, dtype=x.dtype)


@jit
def _backward(x: tf.Tensor, kernel: tf.Tensor, dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    total, dim = _total(x), x.shape[2]
    (wide,) = widened(kernel)
    both = tf.cast(wide + tf.transpose(wide, [0, 2, 1]), x.dtype)  # s is on either side of each
    mixed = tf.reshape(matmul(dy, _flat(both)), [-1, dim, dim])  # [B, D, D]
    dtotal = tf.cast(tf.reduce_sum(mixed * total[:, None, :], axis=2), x.dtype)
    dkernel = matmul(dy, _products(total, x.dtype), transpose_a=True, dtype=x.dtype)  # [U, D * D]
    return tf.broadcast_to(dtotal[:, None], tf.shape(x)), tf.reshape(dkernel, [-1, dim, dim])
