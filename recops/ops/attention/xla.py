"""Attention that keeps no [B, N, T, S]: going back, row statistics make the weights again.

In one XLA program with its backward (a jitted train step) the compiler sees that the weights made
again are those of the forward, and may keep them instead.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core.numerics import accumulate, jit, jit_forward, twice
from recops.ops.attention import reference
from recops.ops.attention.padding import without_padding


def multi_head_attention(
    query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, mask: tf.Tensor, scale: float
) -> tf.Tensor:
    return _op(scale)(query, key, value, mask)


@functools.cache
def _op(scale: float) -> Callable[..., tf.Tensor]:
    forward = jit_forward(accumulate(functools.partial(_forward, scale=scale), narrow=1))
    formula = functools.partial(reference.multi_head_attention, scale=scale)
    backward = twice(jit(accumulate(functools.partial(_backward, scale=scale))), formula)

    @tf.custom_gradient
    def op(
        query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, mask: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[..., Any]]:
        inputs = (query, key, value, mask)
        out, maxima, sums = forward(*inputs)

        def grad(dout: tf.Tensor) -> tuple[Any, ...]:
            return (*backward(inputs, (out, maxima, sums), (dout,)), None)

        return out, grad

    return op


def _heads_first(*tensors: tf.Tensor) -> list[tf.Tensor]:
    """[B, T, N, E] <-> [B, N, T, E], in which every product is a batch of GEMMs as it stands."""
    return [tf.transpose(tensor, [0, 2, 1, 3]) for tensor in tensors]


def _scores(q: tf.Tensor, k: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """[B, N, T, S], the least number under the mask."""
    scores = tf.matmul(q, k, transpose_b=True)
    return tf.where(mask, scores, scores.dtype.min)


def _weights(scores: tf.Tensor, mask: tf.Tensor, maxima: tf.Tensor, sums: tf.Tensor) -> tf.Tensor:
    # The form of a softmax, which XLA knows as one kernel; then zero for a row that keeps no key.
    weights = tf.exp(scores - maxima) / sums
    return tf.where(mask, weights, tf.zeros([], scores.dtype))


def _forward(
    query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, mask: tf.Tensor, *, scale: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The output, and each row's maximum and sum [B, N, T, 1]."""
    key, value = without_padding(key, mask), without_padding(value, mask)
    q, k, v = _heads_first(query * scale, key, value)
    scores = _scores(q, k, mask)
    maxima = tf.reduce_max(scores, axis=-1, keepdims=True)
    sums = tf.reduce_sum(tf.exp(scores - maxima), axis=-1, keepdims=True)
    (out,) = _heads_first(tf.matmul(_weights(scores, mask, maxima, sums), v))
    return out, maxima, sums


def _backward(
    query: tf.Tensor,
    key: tf.Tensor,
    value: tf.Tensor,
    mask: tf.Tensor,
    out: tf.Tensor,
    maxima: tf.Tensor,
    sums: tf.Tensor,
    dout: tf.Tensor,
    *,
    scale: float,
) -> list[tf.Tensor]:
    key, value = without_padding(key, mask), without_padding(value, mask)
    q, k, v, out, dout = _heads_first(query * scale, key, value, out, dout)
    weights = _weights(_scores(q, k, mask), mask, maxima, sums)
    dvalue = tf.matmul(weights, dout, transpose_a=True)
    dweights = tf.matmul(dout, v, transpose_b=True)
    # Over E, not over S: it is the sum of weights * dweights, of which nothing is read twice then.
    inner = tf.reduce_sum(out * dout, axis=-1, keepdims=True)
    dscores = weights * (dweights - inner)
    dquery = tf.matmul(dscores, k) * scale
    dkey = tf.matmul(dscores, q, transpose_a=True)
    return _heads_first(dquery, dkey, dvalue)
