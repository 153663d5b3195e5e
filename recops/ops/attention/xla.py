"""Attention that keeps no [B, N, T, S]: going back, row statistics make the weights again."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core.numerics import accumulate, jit, jit_forward
from recops.ops.attention.padding import without_padding


def multi_head_attention(
    query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, mask: tf.Tensor, scale: float
) -> tf.Tensor:
    return _op(scale)(query, key, value, mask)


@functools.cache
def _op(scale: float) -> Callable[..., tf.Tensor]:
    forward = jit_forward(accumulate(functools.partial(_forward, scale=scale), narrow=1))
    backward = jit(accumulate(functools.partial(_backward, scale=scale)))

    @tf.custom_gradient
    def op(
        query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, mask: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[..., Any]]:
        out, maxima, sums = forward(query, key, value, mask)

        def grad(dout: tf.Tensor) -> tuple[Any, ...]:
            return (*backward(query, key, value, mask, maxima, sums, dout), None)

        return out, grad

    return op


def _scores(query: tf.Tensor, key: tf.Tensor, scale: float) -> tf.Tensor:
    return tf.einsum("btne,bsne->bnts", query * scale, key)


def _forward(
    query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, mask: tf.Tensor, *, scale: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The output, and each row's maximum and sum [B, N, T, 1]; both 0 where no key is kept."""
    key, value = without_padding(key, mask), without_padding(value, mask)
    scores = _scores(query, key, scale)
    zero = tf.zeros([], scores.dtype)
    maxima = tf.reduce_max(tf.where(mask, scores, scores.dtype.min), axis=-1, keepdims=True)
    weights = tf.where(mask, tf.exp(scores - maxima), zero)
    sums = tf.reduce_sum(weights, axis=-1, keepdims=True)
    out = tf.einsum("bnts,bsne->bnte", weights, value)
    out = tf.math.divide_no_nan(out, sums)
    return tf.transpose(out, [0, 2, 1, 3]), maxima, sums


def _backward(
    query: tf.Tensor,
    key: tf.Tensor,
    value: tf.Tensor,
    mask: tf.Tensor,
    maxima: tf.Tensor,
    sums: tf.Tensor,
    dout: tf.Tensor,
    *,
    scale: float,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    key, value = without_padding(key, mask), without_padding(value, mask)
    zero = tf.zeros([], query.dtype)
    scores = _scores(query, key, scale)
    inverse = tf.math.divide_no_nan(tf.ones_like(sums), sums)
    weights = tf.where(mask, tf.exp(scores - maxima) * inverse, zero)
    dvalue = tf.einsum("bnts,btne->bsne", weights, dout)
    dweights = tf.einsum("btne,bsne->bnts", dout, value)
    inner = tf.reduce_sum(weights * dweights, axis=-1, keepdims=True)
    dscores = weights * (dweights - inner) * scale
    dquery = tf.einsum("bnts,bsne->btne", dscores, key)
    dkey = tf.einsum("bnts,btne->bsne", dscores, query)
    return dquery, dkey, dvalue
