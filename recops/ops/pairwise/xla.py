"""Pairwise interactions without a scatter: Gram products and static takes, backward by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from recops._core.numerics import accumulate, jit, jit_forward
from recops._core.products import matmul
from recops.ops.pairwise import pairs

_Backward = Callable[[tf.Tensor], tf.Tensor]


def _op(forward: Any, backward: Any) -> Any:
    """An op of one tensor whose backward recomputes all it needs from that tensor."""
    return _narrow(accumulate(forward), accumulate(backward))


def _narrow(forward: Any, backward: Any) -> Any:
    """The same of functions that say themselves where 16 bits become 32."""
    forward, backward = jit_forward(forward), jit(backward)

    @tf.custom_gradient
    def op(x: tf.Tensor) -> tuple[tf.Tensor, _Backward]:
        return forward(x), lambda dy: backward(x, dy)

    return op


def _inner(x: tf.Tensor) -> tf.Tensor:
    return pairs.upper_take(matmul(x, x, transpose_b=True, dtype=x.dtype))


def _inner_grad(x: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
    return matmul(pairs.symmetric(dy, x.shape[1]), x, dtype=x.dtype)


def _hadamard(x: tf.Tensor) -> tf.Tensor:
    left, right = pairs.left_right(x)
    return left * right


def _hadamard_grad(x: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
    return pairs.sum_over_pairs(dy, x)


def _bi(x: tf.Tensor) -> tf.Tensor:
    return 0.5 * (tf.square(tf.reduce_sum(x, axis=1)) - tf.reduce_sum(tf.square(x), axis=1))


def _bi_grad(x: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
    return dy[:, None] * (tf.reduce_sum(x, axis=1, keepdims=True) - x)


def _fm(x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(_bi(x), axis=1, keepdims=True)


def _crossed(x: tf.Tensor) -> tf.Tensor:
    """x[j, i] at (i, j), zero on the diagonal, whose entries take no part. [B, F, F, D]"""
    off_diagonal = ~np.eye(x.shape[1], dtype=bool)[:, :, None]
    return tf.where(off_diagonal, tf.transpose(x, [0, 2, 1, 3]), tf.zeros([], x.dtype))


def _field_aware(x: tf.Tensor) -> tf.Tensor:
    above = pairs.upper(x.shape[1])[:, :, None]
    products = tf.where(above, x * tf.transpose(x, [0, 2, 1, 3]), tf.zeros([], x.dtype))
    return tf.reduce_sum(products, axis=[1, 2, 3])[:, None]


def _field_aware_grad(x: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
    return dy[:, :, None, None] * _crossed(x)


pairwise_inner = _narrow(_inner, _inner_grad)
pairwise_hadamard = _op(_hadamard, _hadamard_grad)
bi_interaction = _op(_bi, _bi_grad)
fm_interaction = _op(_fm, _bi_grad)
field_aware_interaction = _op(_field_aware, _field_aware_grad)
