"""Attentional pooling by Gram matrices, backward by hand and without a scatter or a pair's product.

What unit a of the hidden layer sees of a pair is x_i diag(W_a) x_j: for all pairs of an example one
product [A F, D] x [D, F], half the memory of the pairs' products [P, D], which nothing forms here.

    pooled = 1/2 sum_i x_i * (S x)_i  with S [F, F] the weights of both orders, 0 on the diagonal

With M_a [F, F] the gradients of the scores where unit a is above 0, all gradients of the network
are sums over M_a x: of W by Y_a = M_a x, of x by sum_a p_a W_a * Y_a. That of the projection needs
no sum over pairs of its own, since a relu is its derivative times what it is of.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core import device
from recops._core.numerics import jit, jit_forward, twice, widened
from recops._core.products import einsum
from recops.ops.attentional_pooling import reference, xla_cpu
from recops.ops.pairwise import pairs

_Outputs = tuple[tf.Tensor, tf.Tensor]


def attentional_pooling(
    x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, projection: tf.Tensor
) -> _Outputs:
    forms = device.form(gpu=(_forward, _backward), cpu=(xla_cpu.forward, xla_cpu.backward))
    return _op(*forms)(x, kernel, bias, projection)


@functools.cache
def _op(forward: Any, backward: Any) -> Callable[..., _Outputs]:
    forward = jit_forward(forward)
    gradient = twice(jit(backward), reference.attentional_pooling)

    @tf.custom_gradient
    def op(*inputs: tf.Tensor) -> tuple[_Outputs, Callable[..., list[tf.Tensor]]]:
        pooled, weights, kept = forward(*inputs)

        def grad(dpooled: tf.Tensor, dweights: tf.Tensor) -> list[tf.Tensor]:
            return gradient(inputs, (kept,), (dpooled, dweights))

        return (pooled, weights), grad

    return op


def _gram(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """x_i diag(W_a) x_j, rounded to what is stored, [B, F, A, F]."""
    fields, dim, width = x.shape[1], x.shape[2], kernel.shape[1]
    scaled = x[:, :, None] * tf.transpose(kernel)  # [B, F, A, D]
    scaled = tf.reshape(scaled, [-1, fields * width, dim])
    gram = einsum("bid,bjd->bij", scaled, x, x.dtype)
    return tf.reshape(gram, [-1, fields, width, fields])


def _halves(*tensors: tf.Tensor) -> list[tuple[tf.Tensor, ...]]:
    """Either half of the batch, of each tensor.

    What is of one half on the way back is dropped before the other is made, which keeps the memory
    below that of the pairs' products.
    """
    half = tf.shape(tensors[0])[0] // 2
    return [tuple(t[:half] for t in tensors), tuple(t[half:] for t in tensors)]


def _scores(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, projection: tf.Tensor) -> tf.Tensor:
    """The score of each pair, [B, F, F]."""
    gram, shift, scale = widened(_gram(x, kernel), bias, projection)
    return tf.reduce_sum(tf.nn.relu(gram + shift[:, None]) * scale[:, None], axis=2)


def _pooling(x: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """sum over j of w_ij x_j, [B, F, D]."""
    full = tf.cast(pairs.symmetric(weights, x.shape[1]), x.dtype)
    return widened(einsum("bij,bjd->bid", full, x, x.dtype))[0]


def _forward(
    x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, projection: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The outputs, and the weights before they are rounded to 16 bits.

    A score's gradient is a difference of what its weight gains and what all gain: small, where the
    rounding of the weights is not.
    """
    scores = [_scores(half, kernel, bias, projection) for (half,) in _halves(x)]
    weights = tf.nn.softmax(pairs.upper_take(tf.concat(scores, axis=0)))  # [B, P]
    pooled = 0.5 * tf.reduce_sum(widened(x)[0] * _pooling(x, weights), axis=1)
    return tf.cast(pooled, x.dtype), tf.cast(weights, x.dtype), weights


def _backward(
    x: tf.Tensor,
    kernel: tf.Tensor,
    bias: tf.Tensor,
    projection: tf.Tensor,
    weights: tf.Tensor,
    dpooled: tf.Tensor,
    dweights: tf.Tensor,
) -> tuple[tf.Tensor, ...]:
    turned = einsum("bid,bjd->bij", x * dpooled[:, None], x)  # [B, F, F]
    above, given = widened(dpooled, dweights)
    given += pairs.upper_take(turned)
    centre = tf.reduce_sum(weights * given, axis=1, keepdims=True)
    dscores = tf.cast(weights * (given - centre), x.dtype)
    dscores = pairs.symmetric(dscores, x.shape[1])  # [B, F, F]
    halves = [
        _network_backward(half, above_half, kernel, bias, projection)
        for half, above_half in _halves(x, dscores)
    ]
    dx, *dnetwork = zip(*halves)
    results = (
        above[:, None] * _pooling(x, weights) + tf.concat(dx, axis=0),
        *map(tf.add_n, dnetwork),
    )
    return tuple(tf.cast(result, x.dtype) for result in results)


def _network_backward(
    x: tf.Tensor, dscores: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, projection: tf.Tensor
) -> tuple[tf.Tensor, ...]:
    """Gradients of x by way of the scores, and of the network."""
    fields, dim, width = x.shape[1], x.shape[2], kernel.shape[1]
    gram, matrix, shift, scale = widened(_gram(x, kernel), kernel, bias, projection)
    alive = gram + shift[:, None] > 0
    masked = tf.where(alive, dscores[:, :, None], tf.zeros([], dscores.dtype))  # [B, F, A, F]
    rows = tf.reshape(masked, [-1, fields * width, fields])
    # With a column of ones, whose products are the sums for the bias.
    longer = tf.concat([x, tf.ones_like(x[:, :, :1])], axis=2)
    sums = tf.reshape(einsum("bij,bjd->bid", rows, longer, x.dtype), [-1, fields, width, dim + 1])
    # Both orders of a pair are in them.
    squares = 0.5 * einsum("bid,biae->ade", longer, sums)
    *of_kernel, of_bias = tf.unstack(tf.linalg.diag_part(squares), axis=1)  # [A] each
    of_kernel = tf.stack(of_kernel)  # [D, A]
    dx = tf.reduce_sum(widened(sums)[0][..., :dim] * tf.transpose(matrix * scale), axis=2)
    dprojection = tf.reduce_sum(matrix * of_kernel, axis=0) + shift * of_bias
    return dx, of_kernel * scale, of_bias * scale, dprojection
