"""Attentional pooling in the form for a CPU's XLA: the pairs' products, and matrices over fields.

    pooled = sum_i x_i * (U x)_i  with U [F, F] the weights above the diagonal,

so the weighted sum over pairs and its gradient to the weights are small batched GEMMs.
"""

from __future__ import annotations

import functools

import tensorflow as tf

from recops._core.numerics import accumulate
from recops.ops.pairwise import pairs


def _hidden(
    x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The products [C, BP/C, D], C kernels and the hidden layer [C, BP/C, A], in C equal chunks.

    A gradient of the network is a GEMM that sums over BP rows into a few columns: XLA runs one on a
    single CPU thread, a batch of them on all. The same shape for all uses saves a second copy.
    """
    fields, dim, width = x.shape[1], x.shape[2], kernel.shape[1]
    chunks = fields if fields % 2 else fields - 1  # a divisor of P
    left, right = pairs.left_right(x)
    products = tf.reshape(left * right, [chunks, -1, dim])
    kernels = tf.broadcast_to(kernel, [chunks, dim, width])
    return products, kernels, tf.nn.relu(tf.matmul(products, kernels) + bias)


@functools.partial(accumulate, narrow=2)
def forward(
    x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, projection: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The outputs, and the weights before they are rounded to 16 bits.

    A score's gradient is a difference of what its weight gains and what all gain: small, where the
    rounding of the weights is not.
    """
    fields = x.shape[1]
    hidden = _hidden(x, kernel, bias)[2]
    scores = tf.reduce_sum(hidden * projection, axis=2)
    weights = tf.nn.softmax(tf.reshape(scores, [-1, pairs.pair_count(fields)]), axis=1)
    full = pairs.symmetric(weights, fields)  # [B, F, F]
    above = tf.where(pairs.upper(fields), full, tf.zeros([], x.dtype))
    return tf.reduce_sum(x * tf.matmul(above, x), axis=1), weights, weights


@accumulate
def backward(
    x: tf.Tensor,
    kernel: tf.Tensor,
    bias: tf.Tensor,
    projection: tf.Tensor,
    weights: tf.Tensor,
    dpooled: tf.Tensor,
    dweights: tf.Tensor,
) -> tuple[tf.Tensor, ...]:
    fields, dim = x.shape[1], x.shape[2]
    products, kernels, hidden = _hidden(x, kernel, bias)
    dweights += pairs.upper_take(tf.matmul(x * dpooled[:, None], x, transpose_b=True))
    centre = tf.reduce_sum(weights * dweights, axis=1, keepdims=True)
    dscores = tf.reshape(weights * (dweights - centre), [kernels.shape[0], -1, 1])
    dhidden = tf.where(hidden > 0, dscores * projection, tf.zeros([], x.dtype))
    dprojection = tf.matmul(dscores, hidden, transpose_a=True)  # [C, 1, A]
    dbias = tf.matmul(tf.ones_like(dscores), dhidden, transpose_a=True)
    dkernel = tf.matmul(products, dhidden, transpose_a=True)  # [C, D, A]
    dproducts = tf.matmul(dhidden, kernels, transpose_b=True)
    dproducts = tf.reshape(dproducts, [-1, pairs.pair_count(fields), dim])
    dx = dpooled[:, None] * tf.matmul(pairs.symmetric(weights, fields), x)
    dx += pairs.left_sums(dproducts, x)
    dx += pairs.right_sums(dproducts, [x[:, i : i + 1] for i in range(fields - 1)])
    return (
        dx,
        tf.reduce_sum(dkernel, axis=0),
        tf.reduce_sum(dbias, axis=[0, 1]),
        tf.reduce_sum(dprojection, axis=[0, 1]),
    )
