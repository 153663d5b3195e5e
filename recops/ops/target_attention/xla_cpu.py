"""The activation unit in the form for a CPU's XLA: its first layer folded to a kernel an example.

The first layer is linear in k once q is known, with W = [Wq; Wk; Wd; Wp] in rows of D:

    [q, k, q - k, q * k] W = q (Wq + Wd) + k ((Wk - Wd) + diag(q) Wp)

so that each example has a kernel [D, A] and a row [A] of its own, and its history costs one GEMM
[T, D] x [D, A], a quarter of the layer's work. Two GEMMs for all examples, k (Wk - Wd) and
(q * k) Wp, take twice the work of that one and form q * k, both ways; the kernels take A / T of the
memory of the histories. And their gradient is a batch of GEMMs, which XLA spreads over the CPU's
threads, where a single one that sums over all steps into [2D, A] runs on one.
"""

from __future__ import annotations

import functools

import tensorflow as tf

from recops._core.activations import ACTIVATIONS
from recops._core.numerics import accumulate
from recops.ops.target_attention.unit import folded, weigh, without_padding

_Tensors = list[tf.Tensor]


def _dense(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """x [B, T, n] times a kernel [n, m]; what has a width of one is no GEMM."""
    if kernel.shape[0] == 1:
        return x * kernel[0]
    if kernel.shape[1] == 1:
        return tf.reduce_sum(x * kernel[:, 0], axis=2, keepdims=True)
    steps, units = tf.shape(x)[1], kernel.shape[1]
    return tf.reshape(tf.matmul(tf.reshape(x, [-1, x.shape[2]]), kernel), [-1, steps, units])


@functools.partial(accumulate, narrow=2)
def forward(
    query: tf.Tensor,
    keys: tf.Tensor,
    mask: tf.Tensor,
    kernels: _Tensors,
    biases: _Tensors,
    *,
    activation: str,
    normalize: bool,
) -> tuple[tf.Tensor, ...]:
    """Pooled keys, weights; and for the backward the weights unrounded and each hidden layer."""
    function, _ = ACTIVATIONS[activation]
    keys = without_padding(keys, mask)
    own, of_query, _ = folded(query, kernels[0])
    row = tf.matmul(query, of_query) + biases[0]  # [B, A]
    x = tf.matmul(keys, own) + row[:, None]
    hidden: _Tensors = []
    for kernel, bias in zip(kernels[1:], biases[1:]):
        hidden.append(function(x))
        x = _dense(hidden[-1], kernel) + bias
    pooled, weights = weigh(tf.squeeze(x, axis=2), keys, mask, normalize)
    return pooled, weights, weights, *hidden


@accumulate
def backward(
    query: tf.Tensor,
    keys: tf.Tensor,
    mask: tf.Tensor,
    kernels: _Tensors,
    weights: tf.Tensor,
    hidden: _Tensors,
    dpooled: tf.Tensor,
    dweights: tf.Tensor,
    *,
    activation: str,
    normalize: bool,
) -> tuple[tf.Tensor, tf.Tensor, _Tensors, _Tensors]:
    _, derivative = ACTIVATIONS[activation]
    keys = without_padding(keys, mask)
    dweights += tf.reduce_sum(keys * dpooled[:, None], axis=2)
    if normalize:
        centre = tf.reduce_sum(weights * dweights, axis=1, keepdims=True)
        dscores = weights * (dweights - centre)
    else:
        dscores = tf.where(mask, dweights, tf.zeros([], keys.dtype))
    dx = dscores[:, :, None]  # [B, T, 1]
    dkernels: _Tensors = []
    dbiases: _Tensors = []
    for kernel, y in reversed(list(zip(kernels[1:], hidden))):
        dkernel, dbias = _sums(y, dx)
        dkernels.insert(0, dkernel)
        dbiases.insert(0, dbias)
        dx = _dense(dx, tf.transpose(kernel)) * derivative(y)

    own, of_query, of_product = folded(query, kernels[0])
    drow = tf.reduce_sum(dx, axis=1)  # [B, A]
    down = tf.matmul(keys, dx, transpose_a=True)  # [B, D, A]
    dof_query = tf.matmul(query, drow, transpose_a=True)
    dof_key = tf.reduce_sum(down, axis=0)
    dof_product = tf.reduce_sum(query[:, :, None] * down, axis=0)
    dkernel = tf.concat([dof_query, dof_key, dof_query - dof_key, dof_product], axis=0)
    dquery = tf.matmul(drow, of_query, transpose_b=True)
    dquery += tf.reduce_sum(down * of_product, axis=2)
    dkeys = tf.matmul(dx, own, transpose_b=True) + weights[:, :, None] * dpooled[:, None]
    return dquery, dkeys, [dkernel, *dkernels], [tf.reduce_sum(drow, axis=0), *dbiases]


def _sums(x: tf.Tensor, dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Gradients of a kernel and its bias: x^T dy and the sum of dy over all B T steps.

    As a batch of T products, for which the steps need not lie in any order: XLA runs a single GEMM
    of so many rows and so few columns on one thread.
    """
    batch, steps = tf.unstack(tf.shape(x)[:2])
    x = tf.reshape(x, [steps, batch, x.shape[2]])
    dy = tf.reshape(dy, [steps, batch, dy.shape[2]])
    dkernel = tf.matmul(x, dy, transpose_a=True)  # [T, n, m]
    dbias = tf.matmul(tf.ones_like(x[:, :, :1]), dy, transpose_a=True)  # [T, 1, m]
    return tf.reduce_sum(dkernel, axis=0), tf.reduce_sum(dbias, axis=[0, 1])
