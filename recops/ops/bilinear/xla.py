"""Bilinear interaction by one GEMM a left field, backward by hand and without a scatter.

The pairs of a left field are contiguous, so that its matrices can stand side by side in one GEMM.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from recops._core.numerics import accumulate, jit, jit_forward
from recops.ops.pairwise.pairs import by_left, left_sums, pair_indices, right_sums

_Pair = tuple[tf.Tensor, tf.Tensor]


def bilinear_interaction(x: tf.Tensor, kernel: tf.Tensor, bilinear_type: str) -> tf.Tensor:
    return _op(bilinear_type)(x, kernel)


@functools.cache
def _op(bilinear_type: str) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    programs = _PROGRAMS[bilinear_type]
    forward, backward = jit_forward(accumulate(programs[0])), jit(accumulate(programs[1]))

    @tf.custom_gradient
    def op(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
        return forward(x, kernel), lambda dy: backward(x, kernel, dy)

    return op


def _rows(x: tf.Tensor) -> tf.Tensor:
    """All fields but the last, which is never on the left, [F-1, B, D]."""
    return tf.transpose(x[:, :-1], [1, 0, 2])


def _turned(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """x_i @ W for "all" [D, D], x_i @ W_i for "each" [F-1, D, D]; [B, F-1, D]."""
    if kernel.shape.rank == 2:
        return tf.tensordot(x[:, :-1], kernel, 1)
    return tf.transpose(tf.matmul(_rows(x), kernel), [1, 0, 2])


def _take_rows(x: tf.Tensor, index: np.ndarray) -> tf.Tensor:
    """`tf.gather(x, index, axis=1)`, as a gather of rows: [B, F, D] -> [B, P, D].

    XLA gives a product of two gathers along axis 1 a layout by pair, which is copied where the
    result leaves the program and worked out again in all that reads it. With this on one side the
    product is laid out by example, and neither happens.
    """
    rows = tf.range(tf.shape(x)[0])[:, None] * x.shape[1] + index
    return tf.gather(tf.reshape(x, [-1, x.shape[2]]), rows)


def _by_field(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    left, right = pair_indices(x.shape[1])
    return tf.gather(_turned(x, kernel), left, axis=1) * _take_rows(x, right)


def _by_field_grad(x: tf.Tensor, kernel: tf.Tensor, dy: tf.Tensor) -> _Pair:
    dturned = tf.transpose(left_sums(dy, x)[:, :-1], [1, 0, 2])
    dkernel = tf.matmul(_rows(x), dturned, transpose_a=True)  # [F-1, D, D]
    if kernel.shape.rank == 2:
        dkernel = tf.reduce_sum(dkernel, axis=0)
        dx = tf.tensordot(dturned, kernel, [[2], [1]])
    else:
        dx = tf.matmul(dturned, kernel, transpose_b=True)
    dx = tf.pad(tf.transpose(dx, [1, 0, 2]), [[0, 0], [0, 1], [0, 0]])
    turned = tf.split(_turned(x, kernel), x.shape[1] - 1, axis=1)
    return dx + right_sums(dy, turned), dkernel


def _side_by_side(kernel: tf.Tensor) -> tf.Tensor:
    """[P, D, D] -> [D, P * D]: the matrices of a left field are neighbouring columns."""
    return tf.reshape(tf.transpose(kernel, [1, 0, 2]), [kernel.shape[1], -1])


def _turned_by_pair(x: tf.Tensor, columns: tf.Tensor) -> list[tf.Tensor]:
    """x_i @ W_p for the pairs p of each left field i, [B, pairs * D]."""
    dim, rows = x.shape[2], tf.transpose(x, [1, 0, 2])
    return [
        tf.matmul(rows[i], columns[:, at.start * dim : at.stop * dim])
        for i, at in by_left(x.shape[1])
    ]


def _by_pair(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    right = pair_indices(x.shape[1])[1]
    turned = tf.concat(_turned_by_pair(x, _side_by_side(kernel)), axis=1)
    return tf.reshape(turned, [-1, len(right), x.shape[2]]) * tf.gather(x, right, axis=1)


def _by_pair_grad(x: tf.Tensor, kernel: tf.Tensor, dy: tf.Tensor) -> _Pair:
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
    turned = _turned_by_pair(x, columns)
    turned = [tf.reshape(t, [-1, fields - 1 - i, dim]) for i, t in enumerate(turned)]
    dx = tf.stack(dleft, axis=1) + right_sums(dy, turned)
    return dx, tf.transpose(dkernel, [1, 0, 2])


_PROGRAMS = {
    "all": (_by_field, _by_field_grad),
    "each": (_by_field, _by_field_grad),
    "interaction": (_by_pair, _by_pair_grad),
}
