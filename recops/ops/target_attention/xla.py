"""The activation unit with its first layer folded, its backward by hand.

The first layer is linear in k once q is known, with W = [Wq; Wk; Wd; Wp] in rows of D:

    [q, k, q - k, q * k] W = q (Wq + Wd) + [k, q * k] [Wk - Wd; Wp]

so that the whole batch takes one product of half the width, [B T, 2D] x [2D, A], and a row [A] an
example. The gradient of the folded kernel is one product too, and that of W its rows and sums.
On a CPU a kernel an example (`xla_cpu.py`) is the faster form.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core import device
from recops._core.activations import ACTIVATIONS
from recops._core.numerics import jit, jit_forward, twice, widened
from recops._core.products import matmul
from recops.ops.target_attention import reference, xla_cpu
from recops.ops.target_attention.unit import weigh, without_padding

_Tensors = list[tf.Tensor]


def target_attention(
    query: tf.Tensor,
    keys: tf.Tensor,
    kernels: _Tensors,
    biases: _Tensors,
    mask: tf.Tensor,
    activation: str,
    normalize: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    forms = device.form(gpu=(_forward, _backward), cpu=(xla_cpu.forward, xla_cpu.backward))
    return _op(*forms, activation, normalize)(query, keys, mask, *kernels, *biases)


@functools.cache
def _op(forward: Any, backward: Any, activation: str, normalize: bool) -> Callable[..., Any]:
    options: dict[str, Any] = {"activation": activation, "normalize": normalize}
    forward = jit_forward(functools.partial(forward, **options))
    program = jit(functools.partial(backward, **options))
    gradient = twice(
        lambda query, keys, kernels, biases, mask, *rest: program(
            query, keys, mask, kernels, *rest
        ),
        functools.partial(reference.target_attention, **options),
    )

    @tf.custom_gradient
    def op(
        query: tf.Tensor, keys: tf.Tensor, mask: tf.Tensor, *network: tf.Tensor
    ) -> tuple[tuple[tf.Tensor, tf.Tensor], Callable[..., Any]]:
        kernels, biases = list(network[: len(network) // 2]), list(network[len(network) // 2 :])
        pooled, weights, kept, *hidden = forward(query, keys, mask, kernels, biases)

        def grad(dpooled: tf.Tensor, dweights: tf.Tensor) -> tuple[Any, ...]:
            dquery, dkeys, *dnetwork = gradient(
                (query, keys, kernels, biases, mask), (kept, hidden), (dpooled, dweights)
            )
            return (dquery, dkeys, None, *dnetwork)

        return (pooled, weights), grad

    return op


def _flat(x: tf.Tensor) -> tf.Tensor:
    """[B, T, n] -> [B T, n]."""
    return tf.reshape(x, [-1, x.shape[2]])


def _dense(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """x [B, T, n] times a kernel [n, m], sums of 32 bits; what has a width of one is no product."""
    if 1 in kernel.shape:
        x, kernel = widened(x, kernel)
    if kernel.shape[0] == 1:
        return x * kernel[0]
    if kernel.shape[1] == 1:
        return tf.reduce_sum(x * kernel[:, 0], axis=2, keepdims=True)
    x, steps = tf.cast(x, kernel.dtype), tf.shape(x)[1]
    return tf.reshape(matmul(_flat(x), kernel), [-1, steps, kernel.shape[1]])


def _sums(x: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
    """x^T dy over all B T steps, [n, m]."""
    if dy.shape[2] == 1:
        return tf.reduce_sum(widened(x)[0] * dy, axis=[0, 1])[:, None]
    return matmul(_flat(x), _flat(tf.cast(dy, x.dtype)), transpose_a=True)


def _folded(kernel: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The first kernel for [k, q * k], [2D, A], and for q, [D, A]."""
    of_query, of_key, of_difference, of_product = tf.split(kernel, 4)
    return tf.concat([of_key - of_difference, of_product], axis=0), of_query + of_difference


def _with_target(query: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """[k, q * k], [B, T, 2D]."""
    return tf.concat([keys, query[:, None] * keys], axis=2)


def _forward(
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
    own, of_query = _folded(kernels[0])
    shifts = widened(*biases)
    row = _dense(query[:, None], of_query) + shifts[0]  # [B, 1, A]
    x = _dense(_with_target(query, keys), own) + row
    hidden: _Tensors = []
    for kernel, shift in zip(kernels[1:], shifts[1:]):
        hidden.append(tf.cast(function(x), keys.dtype))
        x = _dense(hidden[-1], kernel) + shift
    pooled, weights = weigh(tf.squeeze(x, axis=2), *widened(keys), mask, normalize)
    return tf.cast(pooled, keys.dtype), tf.cast(weights, keys.dtype), weights, *hidden


def _backward(
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
    target, each, above, given = widened(query, keys, dpooled, dweights)
    given += tf.reduce_sum(each * above[:, None], axis=2)
    if normalize:
        centre = tf.reduce_sum(weights * given, axis=1, keepdims=True)
        dscores = weights * (given - centre)
    else:
        dscores = tf.where(mask, given, tf.zeros([], given.dtype))
    dx = dscores[:, :, None]  # [B, T, 1]
    dkernels: _Tensors = []
    dbiases: _Tensors = []
    for kernel, y in reversed(list(zip(kernels[1:], hidden))):
        dkernels.insert(0, _sums(y, dx))
        dbiases.insert(0, tf.reduce_sum(dx, axis=[0, 1]))
        dx = _dense(dx, tf.transpose(kernel)) * derivative(*widened(y))

    own, of_query = _folded(kernels[0])
    drow = tf.reduce_sum(dx, axis=1)  # [B, A]
    dof_query = _sums(query[:, None], drow[:, None])
    dof_key, dof_product = tf.split(_sums(_with_target(query, keys), dx), 2)
    dkernels.insert(0, tf.concat([dof_query, dof_key, dof_query - dof_key, dof_product], axis=0))
    dbiases.insert(0, tf.reduce_sum(drow, axis=0))
    straight, product = tf.split(_dense(dx, tf.transpose(own)), 2, axis=2)  # [B, T, D] each
    dkeys = straight + product * target[:, None] + weights[:, :, None] * above[:, None]
    dquery = tf.squeeze(_dense(drow[:, None], tf.transpose(of_query)), axis=1)
    dquery += tf.reduce_sum(product * each, axis=1)
    return tf.nest.map_structure(
        lambda result: tf.cast(result, query.dtype), (dquery, dkeys, dkernels, dbiases)
    )
