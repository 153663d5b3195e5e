"""The outer product layer as one GEMM a direction, backward by hand."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from recops._core.numerics import accumulate, jit, jit_forward


@tf.custom_gradient
def outer_product(
    x: tf.Tensor, kernel: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
    return _forward(x, kernel), lambda dy: _backward(x, kernel, dy)


def _flat(kernel: tf.Tensor) -> tf.Tensor:
    return tf.reshape(kernel, [-1, kernel.shape[1] * kernel.shape[2]])  # [U, D * D]


def _products(total: tf.Tensor) -> tf.Tensor:
    dim = total.shape[1]
    return tf.reshape(total[:, :, None] * total[:, None, :], [-1, dim * dim])


@jit_forward
@accumulate
def _forward(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    return tf.matmul(_products(tf.reduce_sum(x, axis=1)), _flat(kernel), transpose_b=True)


@jit
@accumulate
def _backward(x: tf.Tensor, kernel: tf.Tensor, dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    total, dim = tf.reduce_sum(x, axis=1), x.shape[2]
    both = kernel + tf.transpose(kernel, [0, 2, 1])  # s stands on either side of each matrix
    mixed = tf.reshape(tf.matmul(dy, _flat(both)), [-1, dim, dim])  # [B, D, D]
    dtotal = tf.reduce_sum(mixed * total[:, None, :], axis=2)
    dkernel = tf.matmul(dy, _products(total), transpose_a=True)  # [U, D * D]
    return tf.broadcast_to(dtotal[:, None], tf.shape(x)), tf.reshape(dkernel, [-1, dim, dim])
