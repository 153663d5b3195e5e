"""Attention that keeps its inputs alone: going back it makes scores and weights [B, N, T, S] again.

In one XLA program with its backward (a jitted train step) a barrier hides that the scores made
again are those of the forward, which XLA would keep instead, and has them made when they are
needed. XLA for a CPU does not heed it, and has a form of its own (`xla_cpu.py`).

Of 16-bit inputs all that is multiplied has 16 bits. So have the scores of bfloat16, and the
gradients of weights and scores, where they lie in memory: they are most of what is moved. What is
between them, the softmax with it, is float32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core import device, products, xla_ops
from recops._core.numerics import jit, jit_forward, twice, widened
from recops.ops.attention import reference, xla_cpu
from recops.ops.attention.padding import heads_first, without_padding


def multi_head_attention(
    query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, mask: tf.Tensor, scale: float
) -> tf.Tensor:
    forms = device.form(gpu=(_forward, _backward), cpu=(xla_cpu.forward, xla_cpu.backward))
    return _op(*forms, scale)(query, key, value, mask)


@functools.cache
def _op(forward: Any, backward: Any, scale: float) -> Callable[..., tf.Tensor]:
    forward = jit_forward(functools.partial(forward, scale=scale))
    formula = functools.partial(reference.multi_head_attention, scale=scale)
    gradient = twice(jit(functools.partial(backward, scale=scale)), formula)

    @tf.custom_gradient
    def op(
        query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, mask: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[..., Any]]:
        inputs = (query, key, value, mask)
        out, *statistics = forward(*inputs)
        kept = (out, *statistics) if statistics else ()

        def grad(dout: tf.Tensor) -> tuple[Any, ...]:
            return (*gradient(inputs, kept, (dout,)), None)

        return out, grad

    return op


def _weights(q: tf.Tensor, k: tf.Tensor, mask: tf.Tensor, scale: float) -> tf.Tensor:
    """[B, N, T, S] in the dtype of `q`, zero for a row that keeps no key."""
    scores = products.matmul(q, k, transpose_b=True, dtype=products.stored(q.dtype))
    # Else the product takes the select as well, and has the mask written out for it.
    (scores,) = widened(*xla_ops.barrier(scores))
    scores = tf.where(mask, scores * scale, scores.dtype.min)
    raised = tf.exp(scores - tf.reduce_max(scores, axis=-1, keepdims=True))
    weights = raised * tf.math.reciprocal(tf.reduce_sum(raised, axis=-1, keepdims=True))
    return tf.cast(tf.where(mask, weights, tf.zeros([], scores.dtype)), q.dtype)


def _forward(
    query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, mask: tf.Tensor, *, scale: float
) -> tuple[tf.Tensor]:
    q, k, v = heads_first(query, without_padding(key, mask), without_padding(value, mask))
    weights = _weights(q, k, mask, scale)
    (out,) = heads_first(products.matmul(weights, v, dtype=v.dtype))
    return (out,)


def _backward(
    query: tf.Tensor,
    key: tf.Tensor,
    value: tf.Tensor,
    mask: tf.Tensor,
    dout: tf.Tensor,
    *,
    scale: float,
) -> list[tf.Tensor]:
    key, value = without_padding(key, mask), without_padding(value, mask)
    q, k, v, dout = heads_first(query, key, value, dout)
    q, dout = xla_ops.barrier(q, dout)
    narrow = q.dtype
    # Written once, in the dtype that is multiplied, for the two kernels that read them.
    (weights,) = xla_ops.barrier(_weights(q, k, mask, scale))
    dvalue = products.matmul(weights, dout, transpose_a=True, dtype=narrow)
    dweights = products.matmul(dout, v, transpose_b=True, dtype=products.stored(narrow))
    weights, dweights = widened(weights, dweights)
    # Over S, where it is the sum of what stands there: a row that keeps one key has no gradient.
    inner = tf.reduce_sum(weights * dweights, axis=-1, keepdims=True)
    dscores = tf.cast(weights * (dweights - inner) * scale, narrow)
    dquery = products.matmul(dscores, k, dtype=narrow)
    dkey = products.matmul(dscores, q, transpose_a=True, dtype=narrow)
    return heads_first(dquery, dkey, dvalue)
