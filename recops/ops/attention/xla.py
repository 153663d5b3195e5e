"""Attention that keeps no [B, N, T, S]: going back, row statistics make the weights again.

In one XLA program with its backward (a jitted train step) a barrier hides that the scores made
again are those of the forward, which XLA would keep instead, and has them made when they are
needed. XLA for a CPU does not heed it.

Of 16-bit inputs all that is multiplied has 16 bits. So have the scores of bfloat16 and their
gradients where they lie in memory: they are most of what is moved. Their softmax is float32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core import products, xla_ops
from recops._core.numerics import jit, jit_forward, twice, widened
from recops.ops.attention import reference
from recops.ops.attention.padding import without_padding


def multi_head_attention(
    query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, mask: tf.Tensor, scale: float
) -> tf.Tensor:
    return _op(scale)(query, key, value, mask)


@functools.cache
def _op(scale: float) -> Callable[..., tf.Tensor]:
    forward = jit_forward(functools.partial(_forward, scale=scale))
    formula = functools.partial(reference.multi_head_attention, scale=scale)
    backward = twice(jit(functools.partial(_backward, scale=scale)), formula)

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


def _scores(q: tf.Tensor, k: tf.Tensor, mask: tf.Tensor, scale: float) -> tf.Tensor:
    """[B, N, T, S], the least number under the mask."""
    (scores,) = widened(products.matmul(q, k, transpose_b=True, dtype=products.stored(q.dtype)))
    return tf.where(mask, scores * scale, scores.dtype.min)


def _weights(scores: tf.Tensor, mask: tf.Tensor, maxima: tf.Tensor, sums: tf.Tensor) -> tf.Tensor:
    # The form of a softmax, which XLA knows as one kernel; then zero for a row that keeps no key.
    weights = tf.exp(scores - maxima) / sums
    return tf.where(mask, weights, tf.zeros([], scores.dtype))


def _forward(
    query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, mask: tf.Tensor, *, scale: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The output, and each row's maximum and sum [B, N, T, 1]."""
    key, value = without_padding(key, mask), without_padding(value, mask)
    q, k, v = _heads_first(query, key, value)
    scores = _scores(q, k, mask, scale)
    maxima = tf.reduce_max(scores, axis=-1, keepdims=True)
    sums = tf.reduce_sum(tf.exp(scores - maxima), axis=-1, keepdims=True)
    weights = tf.cast(_weights(scores, mask, maxima, sums), v.dtype)
    (out,) = _heads_first(products.matmul(weights, v, dtype=v.dtype))
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
    q, k, v, out, dout = _heads_first(query, key, value, out, dout)
    q, dout = xla_ops.barrier(q, dout)
    narrow = q.dtype
    weights = _weights(_scores(q, k, mask, scale), mask, maxima, sums)
    dvalue = products.matmul(tf.cast(weights, narrow), dout, transpose_a=True, dtype=narrow)
    # In 32 bits: of a row that keeps one key it is `inner`, and nothing may be left of the two.
    dweights = products.matmul(dout, v, transpose_b=True)
    out, above = widened(out, dout)
    # Over E, not over S: it is the sum of weights * dweights, of which nothing is read twice then.
    inner = tf.reduce_sum(out * above, axis=-1, keepdims=True)
    dscores = tf.cast(weights * (dweights - inner) * scale, narrow)
    dquery = products.matmul(dscores, k, dtype=narrow)
    dkey = products.matmul(dscores, q, transpose_a=True, dtype=narrow)
    return _heads_first(dquery, dkey, dvalue)
