"""The activation unit with its first layer folded, its backward by hand.

The first layer is linear in k once q is known, with W = [Wq; Wk; Wd; Wp] in rows of D:

    [q, k, q - k, q * k] W = [k, q * k, q] [Wk - Wd; Wp; Wq + Wd]

Forward the input is made whole, for the batch in one product: XLA adds the bias and takes the
activation in the product's own kernel, which a row an example, to be added, would prevent, and the
folded kernel would be one rounding more. Its gradient is of the same product; those of q and k
go through the folded kernel, [B T, A] x [A, 3D]. On a CPU a kernel an example is the faster form
(`xla_cpu.py`).

Hidden layers stand behind a barrier: XLA would else leave out their rounding to 16 bits, and write
32 for what reads them on the way back.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core import device, xla_ops
from recops._core.activations import ACTIVATIONS
from recops._core.numerics import jit, jit_forward, twice, widened
from recops._core.products import matmul, stored
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
    """x [B, T, n] times a kernel [n, m], as stored; what has a width of one is no product."""
    dtype = kernel.dtype
    if 1 in kernel.shape:
        x, kernel = widened(x, kernel)
    if kernel.shape[0] == 1:
        return x * kernel[0]
    if kernel.shape[1] == 1:
        return tf.reduce_sum(x * kernel[:, 0], axis=2, keepdims=True)
    x, steps = tf.cast(x, dtype), tf.shape(x)[1]
    return tf.reshape(matmul(_flat(x), kernel, dtype=stored(dtype)), [-1, steps, kernel.shape[1]])


def _sums(x: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
    """x^T dy over all B T steps, [n, m]."""
    if dy.shape[2] == 1:
        return tf.reduce_sum(widened(x)[0] * dy, axis=[0, 1])[:, None]
    return matmul(_flat(x), _flat(tf.cast(dy, x.dtype)), transpose_a=True)


def _biased(x: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    return x + tf.cast(bias, x.dtype)


def _with_target(query: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """[q, k, q - k, q * k], [B, T, 4D]."""
    q = tf.broadcast_to(query[:, None], tf.shape(keys))
    return tf.concat([q, keys, q - keys, q * keys], axis=2)


def _folded(kernel: tf.Tensor) -> tf.Tensor:
    """The first kernel for [k, q * k, q], [3D, A]."""
    of_query, of_key, of_difference, of_product = tf.split(kernel, 4)
    return tf.concat([of_key - of_difference, of_product, of_query + of_difference], axis=0)


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
    x = _biased(_dense(_with_target(query, keys), kernels[0]), biases[0])
    hidden: _Tensors = []
    for kernel, bias in zip(kernels[1:], biases[1:]):
        hidden += xla_ops.barrier(tf.cast(function(x), keys.dtype))
        x = _biased(_dense(hidden[-1], kernel), bias)
    scores, each = widened(tf.squeeze(x, axis=2), keys)
    pooled, weights = weigh(scores, each, mask, normalize)
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
        dx = widened(_dense(dx, tf.transpose(kernel)))[0] * derivative(*widened(y))

    dbiases.insert(0, tf.reduce_sum(dx, axis=[0, 1]))
    dkernels.insert(0, _sums(_with_target(query, keys), dx))
    dinputs = widened(_dense(dx, tf.transpose(_folded(kernels[0]))))[0]
    of_keys, of_products, of_target = tf.split(dinputs, 3, axis=2)  # [B, T, D] each
    dkeys = of_keys + of_products * target[:, None] + weights[:, :, None] * above[:, None]
    dquery = tf.reduce_sum(of_target + of_products * each, axis=1)
    return tf.nest.map_structure(
        lambda result: tf.cast(result, query.dtype), (dquery, dkeys, dkernels, dbiases)
    )
