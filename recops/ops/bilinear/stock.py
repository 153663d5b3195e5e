"""What a Keras user writes for bilinear interaction today; benches compare with the fastest."""

from __future__ import annotations

import itertools

import tensorflow as tf

from recops.ops.pairwise.pairs import left_right, pair_indices


def _by_gathers(x: tf.Tensor, kernel: tf.Tensor, bilinear_type: str) -> tf.Tensor:
    left, right = left_right(x)
    if bilinear_type == "all":
        return tf.tensordot(left, kernel, 1) * right
    if bilinear_type == "each":
        kernel = tf.gather(kernel, pair_indices(x.shape[1])[0])
    return tf.einsum("bpd,pde->bpe", left, kernel) * right


def _by_fields(x: tf.Tensor, kernel: tf.Tensor, bilinear_type: str) -> tf.Tensor:
    """Multiplies by the matrices first, then gathers: all that "all" and "each" need."""
    if bilinear_type == "interaction":
        return _by_gathers(x, kernel, bilinear_type)
    equation = "bfd,de->bfe" if bilinear_type == "all" else "bfd,fde->bfe"
    turned = tf.einsum(equation, x[:, :-1], kernel)
    left, right = pair_indices(x.shape[1])
    return tf.gather(turned, left, axis=1) * tf.gather(x, right, axis=1)


def _by_slices(x: tf.Tensor, kernel: tf.Tensor, bilinear_type: str) -> tf.Tensor:
    """One GEMM and one product for all the pairs of a left field."""
    fields, dim = x.shape[1], x.shape[2]
    products, start = [], 0
    for i in range(fields - 1):
        count = fields - 1 - i
        if bilinear_type == "interaction":
            matrices = tf.transpose(kernel[start : start + count], [1, 0, 2])
            turned = tf.matmul(x[:, i], tf.reshape(matrices, [dim, count * dim]))
            turned = tf.reshape(turned, [-1, count, dim])
        else:
            turned = tf.matmul(x[:, i], kernel if bilinear_type == "all" else kernel[i])[:, None]
        products.append(turned * x[:, i + 1 :])
        start += count
    return tf.concat(products, axis=1)


def _by_tensordots(x: tf.Tensor, kernel: tf.Tensor, bilinear_type: str) -> tf.Tensor:
    """One product a pair, in a list, as public FiBiNET layers do."""
    columns = tf.unstack(x, axis=1)
    pairs = list(itertools.combinations(range(len(columns)), 2))
    if bilinear_type == "interaction":
        products = [
            tf.tensordot(columns[i], kernel[p], 1) * columns[j] for p, (i, j) in enumerate(pairs)
        ]
    else:
        each = bilinear_type == "each"
        turned = [
            tf.tensordot(column, kernel[i] if each else kernel, 1)
            for i, column in enumerate(columns[:-1])
        ]
        products = [turned[i] * columns[j] for i, j in pairs]
    return tf.stack(products, axis=1)


FORMS = {
    "bilinear_interaction": {
        "gathers": _by_gathers,
        "fields": _by_fields,
        "slices": _by_slices,
        "tensordots": _by_tensordots,
    },
}
