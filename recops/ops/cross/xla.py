"""The cross network with its backward by hand.

Vector kernels: every layer's state is a multiple of the input plus a row that all examples share,
x_l = a_l x_0 + c_l with a_l [B, 1] and c_l [1, n]. So one GEMM gives all the scalar products
t_l = x_0 . w_l, the layers become a recursion on scalars, and x_0 is read once:

    a_{l+1} = a_l (1 + t_l) + c_l . w_l        c_{l+1} = c_l + b_l
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core.numerics import accumulate, jit, jit_forward

_Tensors = list[tf.Tensor]


def cross_network(x: tf.Tensor, kernels: _Tensors, biases: _Tensors) -> tf.Tensor:
    if not kernels:
        return tf.identity(x)
    op = _vector_network if kernels[0].shape.rank == 1 else _matrix_network
    return op(x, *kernels, *biases)


@tf.custom_gradient
def _vector_network(x: tf.Tensor, *weights: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
    kernels, biases = _halves(weights)

    def grad(dy: tf.Tensor) -> tuple[tf.Tensor, ...]:
        dx, dkernels, dbiases = _vector_backward(x, kernels, biases, dy)
        return (dx, *tf.unstack(dkernels), *tf.unstack(dbiases))

    return _vector_forward(x, kernels, biases), grad


@tf.custom_gradient
def _matrix_network(x: tf.Tensor, *weights: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
    kernels, biases = _halves(weights)
    y, states, products = _matrix_forward(x, kernels, biases)

    def grad(dy: tf.Tensor) -> tuple[tf.Tensor, ...]:
        dx, dkernels, dbiases = _matrix_backward(x, kernels, states, products, dy)
        return (dx, *dkernels, *dbiases)

    return y, grad


def _halves(weights: tuple[tf.Tensor, ...]) -> tuple[_Tensors, _Tensors]:
    return list(weights[: len(weights) // 2]), list(weights[len(weights) // 2 :])


def _recursion(x: tf.Tensor, kernels: _Tensors, biases: _Tensors) -> tuple[Any, ...]:
    """Stacked kernels [L, n], and for each layer its t_l, its a_l and its c_l; then the last."""
    stacked = tf.stack(kernels)
    products = tf.matmul(x, stacked, transpose_b=True)  # [B, L]
    scales, shifts = [tf.ones_like(x[:, :1])], [tf.zeros_like(biases[0])]
    for layer, (kernel, bias) in enumerate(zip(kernels, biases)):
        shared = tf.reduce_sum(shifts[-1] * kernel)
        scales.append(scales[-1] * (1 + products[:, layer : layer + 1]) + shared)
        shifts.append(shifts[-1] + bias)
    return stacked, products, scales, shifts


@jit_forward
@accumulate
def _vector_forward(x: tf.Tensor, kernels: _Tensors, biases: _Tensors) -> tf.Tensor:
    _, _, scales, shifts = _recursion(x, kernels, biases)
    return x * scales[-1] + shifts[-1]


@jit
@accumulate
def _vector_backward(
    x: tf.Tensor, kernels: _Tensors, biases: _Tensors, dy: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    stacked, products, scales, shifts = _recursion(x, kernels, biases)
    dscale = tf.reduce_sum(dy * x, axis=1, keepdims=True)  # [B, 1]
    dshift = tf.reduce_sum(dy, axis=0)  # [n]
    dproducts: _Tensors = []
    dshared: _Tensors = []
    dbiases: _Tensors = []
    for layer in reversed(range(len(kernels))):
        dbiases.insert(0, dshift)
        dshared.insert(0, tf.reduce_sum(dscale))
        dproducts.insert(0, dscale * scales[layer])
        dshift = dshift + dshared[0] * kernels[layer]
        dscale = dscale * (1 + products[:, layer : layer + 1])
    dproduct = tf.concat(dproducts, axis=1)  # [B, L]
    dx = dy * scales[-1] + tf.matmul(dproduct, stacked)
    dkernels = tf.matmul(dproduct, x, transpose_a=True)
    dkernels += tf.stack(dshared)[:, None] * tf.stack(shifts[:-1])
    return dx, dkernels, tf.stack(dbiases)


# The matrix form is GEMMs and little else. It is no program of its own: in a graph on the CPU
# TensorFlow's GEMM is a fifth faster than XLA's, and a jitted step fuses the rest all the same.


def _matrix_layer(x: tf.Tensor, product: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
    return x * product + state


@accumulate
def _matrix_forward(
    x: tf.Tensor, kernels: _Tensors, biases: _Tensors
) -> tuple[tf.Tensor, _Tensors, _Tensors]:
    """The output, and for the backward the states that enter the layers and their products."""
    state, states, products = x, [], []
    for kernel, bias in zip(kernels, biases):
        states.append(state)
        products.append(tf.nn.bias_add(tf.matmul(state, kernel), bias))
        state = _matrix_layer(x, products[-1], state)
    return state, states, products


def _matrix_layer_backward(
    x: tf.Tensor, product: tf.Tensor, dy: tf.Tensor, dx: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    return dy * x, dx + dy * product


@accumulate
def _matrix_backward(
    x: tf.Tensor, kernels: _Tensors, states: _Tensors, products: _Tensors, dy: tf.Tensor
) -> tuple[tf.Tensor, _Tensors, _Tensors]:
    dx = tf.zeros_like(x)
    dkernels: _Tensors = []
    dbiases: _Tensors = []
    for kernel, state, product in reversed(list(zip(kernels, states, products))):
        dproduct, dx = _matrix_layer_backward(x, product, dy, dx)
        dkernels.insert(0, tf.matmul(state, dproduct, transpose_a=True))
        dbiases.insert(0, tf.raw_ops.BiasAddGrad(out_backprop=dproduct))
        dy = dy + tf.matmul(dproduct, kernel, transpose_b=True)
    return dx + dy, dkernels, dbiases
