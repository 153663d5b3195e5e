"""What a Keras user writes for the outer product layer today."""

from __future__ import annotations

import tensorflow as tf


def _by_products(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    total = tf.reduce_sum(x, axis=1)
    products = tf.expand_dims(total, 2) * tf.expand_dims(total, 1)
    return tf.tensordot(products, kernel, [[1, 2], [1, 2]])


def _by_einsum(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    total = tf.reduce_sum(x, axis=1)
    return tf.einsum("bd,ude,be->bu", total, kernel, total)


def _by_matvec(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    total = tf.reduce_sum(x, axis=1)
    turned = tf.tensordot(total, kernel, [[1], [1]])  # [B, U, D]
    return tf.reduce_sum(turned * total[:, None, :], axis=2)


FORMS = {
    "outer_product": {"products": _by_products, "einsum": _by_einsum, "matvec": _by_matvec},
}
