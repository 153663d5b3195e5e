"""The form for a CPU, in float32 or float64: row statistics make the weights again.

In one XLA program with its backward the compiler sees that the weights made again are those of the
forward, and may keep them instead.
"""

from __future__ import annotations

import functools

import tensorflow as tf

from recops._core.numerics import accumulate
from recops.ops.attention.padding import heads_first, without_padding


def _scores(q: tf.Tensor, k: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """[B, N, T, S], the least number under the mask."""
    scores = tf.matmul(q, k, transpose_b=True)
    return tf.where(mask, scores, scores.dtype.min)


def _weights(scores: tf.Tensor, mask: tf.Tensor, maxima: tf.Tensor, sums: tf.Tensor) -> tf.Tensor:
    # The form of a softmax, which XLA knows as one kernel; then zero for a row that keeps no key.
    weights = tf.exp(scores - maxima) / sums
    return tf.where(mask, weights, tf.zeros([], scores.dtype))


@functools.partial(accumulate, narrow=1)
def forward(
    query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, mask: tf.Tensor, *, scale: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The output, and each row's maximum and sum [B, N, T, 1]."""
    key, value = without_padding(key, mask), without_padding(value, mask)
    q, k, v = heads_first(query * scale, key, value)
    scores = _scores(q, k, mask)
    maxima = tf.reduce_max(scores, axis=-1, keepdims=True)
    sums = tf.reduce_sum(tf.exp(scores - maxima), axis=-1, keepdims=True)
    (out,) = heads_first(tf.matmul(_weights(scores, mask, maxima, sums), v))
    return out, maxima, sums


@accumulate
def backward(
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
    q, k, v, out, dout = heads_first(query * scale, key, value, out, dout)
    weights = _weights(_scores(q, k, mask), mask, maxima, sums)
    dvalue = tf.matmul(weights, dout, transpose_a=True)
    dweights = tf.matmul(dout, v, transpose_b=True)
    # Over E, not over S: it is the sum of weights * dweights, of which nothing is read twice then.
    inner = tf.reduce_sum(out * dout, axis=-1, keepdims=True)
    dscores = weights * (dweights - inner)
    dquery = tf.matmul(dscores, k) * scale
    dkey = tf.matmul(dscores, q, transpose_a=True)
    return heads_first(dquery, dkey, dvalue)
