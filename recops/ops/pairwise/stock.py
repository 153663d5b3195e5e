"""What a Keras user writes for pairwise interactions today; benches compare with the fastest."""

from __future__ import annotations

import tensorflow as tf

from recops.ops.pairwise.pairs import left_right, pair_indices


def _inner_by_gathers(x: tf.Tensor) -> tf.Tensor:
    left, right = left_right(x)
    return tf.reduce_sum(left * right, axis=-1)


def _inner_by_gram(x: tf.Tensor) -> tf.Tensor:
    fields = x.shape[1]
    left, right = pair_indices(fields)
    gram = tf.matmul(x, x, transpose_b=True)
    return tf.gather(tf.reshape(gram, [-1, fields * fields]), left * fields + right, axis=1)


def _hadamard_by_gathers(x: tf.Tensor) -> tf.Tensor:
    left, right = left_right(x)
    return left * right


def _hadamard_by_slices(x: tf.Tensor) -> tf.Tensor:
    fields = x.shape[1]
    return tf.concat([x[:, i : i + 1] * x[:, i + 1 :] for i in range(fields - 1)], axis=1)


def _bi_by_squares(x: tf.Tensor) -> tf.Tensor:
    return 0.5 * (tf.square(tf.reduce_sum(x, axis=1)) - tf.reduce_sum(tf.square(x), axis=1))


def _fm_by_squares(x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(_bi_by_squares(x), axis=1, keepdims=True)


def _field_aware_by_gathers(x: tf.Tensor) -> tf.Tensor:
    fields, dim = x.shape[1], x.shape[3]
    left, right = pair_indices(fields)
    flat = tf.reshape(x, [-1, fields * fields, dim])
    own = tf.gather(flat, left * fields + right, axis=1)
    other = tf.gather(flat, right * fields + left, axis=1)
    return tf.reduce_sum(own * other, axis=[1, 2])[:, None]


def _field_aware_by_transpose(x: tf.Tensor) -> tf.Tensor:
    products = x * tf.transpose(x, [0, 2, 1, 3])
    diagonal = tf.linalg.diag_part(tf.reduce_sum(products, axis=3))
    full = tf.reduce_sum(products, axis=[1, 2, 3]) - tf.reduce_sum(diagonal, axis=1)
    return 0.5 * full[:, None]


FORMS = {
    "pairwise_inner": {"gathers": _inner_by_gathers, "gram": _inner_by_gram},
    "pairwise_hadamard": {"gathers": _hadamard_by_gathers, "slices": _hadamard_by_slices},
    "bi_interaction": {"squares": _bi_by_squares},
    "fm_interaction": {"squares": _fm_by_squares},
    "field_aware_interaction": {
        "gathers": _field_aware_by_gathers,
        "transpose": _field_aware_by_transpose,
    },
}
