"""The outer product layer as one GEMM a direction, backward by hand.

The sum over the fields and its products are of at least 32 bits. Those of bfloat16 are rounded for
the GEMM; of float16 they may be too large for it, and its GEMM is one of float32.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from recops._core.numerics import jit, jit_forward, widened
from recops._core.products import matmul, stored


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
    factor = stored(x.dtype)
    outer, flat = _products(_total(x), factor), tf.cast(_flat(kernel), factor)
    return tf.cast(matmul(outer, flat, transpose_b=True, dtype=factor), x.dtype)


@jit
def _backward(x: tf.Tensor, kernel: tf.Tensor, dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    total, dim, factor = _total(x), x.shape[2], stored(x.dtype)
    (wide,) = widened(kernel)
    both = tf.cast(wide + tf.transpose(wide, [0, 2, 1]), factor)  # s is on either side of each
    dy = tf.cast(dy, factor)
    mixed = tf.reshape(matmul(dy, _flat(both)), [-1, dim, dim])  # [B, D, D]
    dtotal = tf.cast(tf.reduce_sum(mixed * total[:, None, :], axis=2), x.dtype)
    dkernel = matmul(dy, _products(total, factor), transpose_a=True, dtype=factor)  # [U, D * D]
    dkernel = tf.cast(tf.reshape(dkernel, [-1, dim, dim]), x.dtype)
    return tf.broadcast_to(dtotal[:, None], tf.shape(x)), dkernel
