"""What a Keras user writes for attentional pooling today; benches compare with the fastest."""

from __future__ import annotations

import tensorflow as tf

from recops.ops.pairwise.pairs import left_right

_Outputs = tuple[tf.Tensor, tf.Tensor]


def _attend(
    products: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, projection: tf.Tensor
) -> _Outputs:
    hidden = tf.nn.relu(tf.nn.bias_add(tf.tensordot(products, kernel, 1), bias))
    scores = tf.tensordot(hidden, projection[:, None], 1)  # [B, P, 1]
    weights = tf.nn.softmax(scores, axis=1)
    return tf.reduce_sum(weights * products, axis=1), tf.squeeze(weights, axis=2)


def _by_gathers(x: tf.Tensor, *weights: tf.Tensor, **named: tf.Tensor) -> _Outputs:
    left, right = left_right(x)
    return _attend(left * right, *weights, **named)


def _by_slices(x: tf.Tensor, *weights: tf.Tensor, **named: tf.Tensor) -> _Outputs:
    products = [x[:, i : i + 1] * x[:, i + 1 :] for i in range(x.shape[1] - 1)]
    return _attend(tf.concat(products, axis=1), *weights, **named)


def _by_einsum(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, projection: tf.Tensor) -> _Outputs:
    """Slices for the products, then a batched product to pool them."""
    products = tf.concat([x[:, i : i + 1] * x[:, i + 1 :] for i in range(x.shape[1] - 1)], axis=1)
    hidden = tf.nn.relu(tf.einsum("bpd,da->bpa", products, kernel) + bias)
    weights = tf.nn.softmax(tf.einsum("bpa,a->bp", hidden, projection), axis=1)
    return tf.einsum("bp,bpd->bd", weights, products), weights


FORMS = {
    "attentional_pooling": {"gathers": _by_gathers, "slices": _by_slices, "einsum": _by_einsum},
}
