"""Bilinear interaction with a matrix a pair, in the form for a CPU's XLA: one GEMM a left field.

The pairs of a left field are contiguous, so that its matrices can stand side by side in one GEMM,
which leaves its products in the CPU's cache.
"""

from __future__ import annotations

import tensorflow as tf

from recops._core.numerics import accumulate
from recops.ops.pairwise.pairs import by_left, pair_indices, right_sums


def _side_by_side(kernel: tf.Tensor) -> tf.Tensor:
    """[P, D, D] -> [D, P * D]: the matrices of a left field are neighbouring columns."""
    return tf.reshape(tf.transpose(kernel, [1, 0, 2]), [kernel.shape[1], -1])


def _turned(x: tf.Tensor, columns: tf.Tensor) -> list[tf.Tensor]:
    """x_i @ W_p for the pairs p of each left field i, [B, pairs * D]."""
    dim, rows = x.shape[2], tf.transpose(x, [1, 0, 2])
    return [
        tf.matmul(rows[i], columns[:, at.start * dim : at.stop * dim])
        for i, at in by_left(x.shape[1])
    ]


def _forward(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    right = pair_indices(x.shape[1])[1]
    turned = tf.concat(_turned(x, _side_by_side(kernel)), axis=1)
    return tf.reshape(turned, [-1, len(right), x.shape[2]]) * tf.gather(x, right, axis=1)


def _backward(x: tf.Tensor, kernel: tf.Tensor, dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    fields, dim = x.shape[1], x.shape[2]
    columns, rows = _side_by_side(kernel), tf.transpose(x, [1, 0, 2])
    dleft, dcolumns = [], []
    for i, at in by_left(fields):
        dturned = tf.reshape(dy[:, at] * x[:, i + 1 :], [-1, (fields - 1 - i) * dim])
        dcolumns.append(tf.matmul(rows[i], dturned, transpose_a=True))
        matrices = columns[:, at.start * dim : at.stop * dim]
        dleft.append(tf.matmul(dturned, matrices, transpose_b=True))
    dleft.append(tf.zeros_like(dleft[0]))
    dkernel = tf.reshape(tf.concat(dcolumns, axis=1), [dim, -1, dim])
    turned = [tf.reshape(t, [-1, fields - 1 - i, dim]) for i, t in enumerate(_turned(x, columns))]
    dx = tf.stack(dleft, axis=1) + right_sums(dy, turned)
    return dx, tf.transpose(dkernel, [1, 0, 2])


FORMS = (accumulate(_forward), accumulate(_backward))
