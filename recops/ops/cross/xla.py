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

from recops._core.numerics import jit, jit_forward, widened
from recops._core.products import matmul

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
    """For each layer its t_l, all of them in [B, L], its a_l and its c_l; then the last."""
    products = matmul(x, tf.stack(kernels), transpose_b=True)  # [B, L]
    scales, shifts = [tf.ones_like(products[:, :1])], [tf.zeros_like(*widened(biases[0]))]
    for layer, (kernel, bias) in enumerate(zip(widened(*kernels), widened(*biases))):
        shared = tf.reduce_sum(shifts[-1] * kernel)
        scales.append(scales[-1] * (1 + products[:, layer : layer + 1]) + shared)
        shifts.append(shifts[-1] + bias)
    return products, scales, shifts


@jit_forward
def _vector_forward(x: tf.Tensor, kernels: _Tensors, biases: _Tensors) -> tf.Tensor:
    _, scales, shifts = _recursion(x, kernels, biases)
    return tf.cast(widened(x)[0] * scales[-1] + shifts[-1], x.dtype)


@jit
def _vector_backward(
    x: tf.Tensor, kernels: _Tensors, biases: _Tensors, dy: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    products, scales, shifts = _recursion(x, kernels, biases)
    wide, above, *rows = widened(x, dy, *kernels)
    dscale = tf.reduce_sum(above * wide, axis=1, keepdims=True)  # [B, 1]
    dshift = tf.reduce_sum(above, axis=0)  # [n]
    dproducts: _Tensors = []
    dshared: _Tensors = []
    dbiases: _Tensors = []
    for layer in reversed(range(len(kernels))):
        dbiases.insert(0, dshift)
        dshared.insert(0, tf.reduce_sum(dscale))
        dproducts.insert(0, dscale * scales[layer])
        dshift = dshift + dshared[0] * rows[layer]
        dscale = dscale * (1 + products[:, layer : layer + 1])
    dproduct = tf.cast(tf.concat(dproducts, axis=1), x.dtype)  # [B, L]
    more = matmul(dproduct, tf.stack(kernels), dtype=x.dtype)
    dx = above * scales[-1] + widened(more)[0]
    dkernels = matmul(dproduct, x, transpose_a=True)
    dkernels += tf.stack(dshared)[:, None] * tf.stack(shifts[:-1])
    return tuple(tf.cast(result, x.dtype) for result in (dx, dkernels, tf.stack(dbiases)))


# The matrix form is GEMMs and little else. It is no program of its own: in a graph on the CPU
# TensorFlow's GEMM is a fifth faster than XLA's, and a jitted step fuses the rest all the same.


# In 16 bits the states, their products and their gradients are stored as such, and worked out in
# that type: XLA would else keep them in 32 for whatever reads them next.


def _matrix_forward(
    x: tf.Tensor, kernels: _Tensors, biases: _Tensors
) -> tuple[tf.Tensor, _Tensors, _Tensors]:
    """The output, and for the backward the states that enter the layers and their products."""
    state, states, products = x, [], []
    for kernel, bias in zip(kernels, biases):
        states.append(state)
        products.append(tf.nn.bias_add(matmul(state, kernel, dtype=x.dtype), bias))
        state = x * products[-1] + state
    return state, states, products


def _matrix_backward(
    x: tf.Tensor, kernels: _Tensors, states: _Tensors, products: _Tensors, dy: tf.Tensor
) -> tuple[tf.Tensor, _Tensors, _Tensors]:
    dkernels: _Tensors = []
    dbiases: _Tensors = []
    terms: _Tensors = []
    for kernel, state, product in reversed(list(zip(kernels, states, products))):
        dproduct = dy * x
        terms.append(tf.multiply(*widened(dy, product)))
        dkernels.insert(0, matmul(state, dproduct, transpose_a=True))
        dbiases.insert(0, tf.raw_ops.BiasAddGrad(out_backprop=widened(dproduct)[0]))
        dy = dy + matmul(dproduct, kernel, transpose_b=True, dtype=x.dtype)
    dx = tf.add_n([*terms, *widened(dy)])
    return tf.nest.map_structure(lambda r: tf.cast(r, x.dtype), (dx, dkernels, dbiases))
