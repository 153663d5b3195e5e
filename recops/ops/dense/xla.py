"""The dense layer as one XLA program a direction; the backward starts from the results.

16-bit operands go into the products as they are, so that a GPU's tensor cores see 16 bits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core import xla_ops
from recops._core.activations import ACTIVATIONS
from recops._core.numerics import HALF, jit, jit_forward, twice, widened
from recops.ops.dense import reference


def dense(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | None, activation: str) -> tf.Tensor:
    return _op(activation)(*((x, kernel) if bias is None else (x, kernel, bias)))


@functools.cache
def _op(activation: str) -> Callable[..., tf.Tensor]:
    forward = jit_forward(functools.partial(_forward, activation=activation))
    backward = jit(functools.partial(_backward, activation=activation))

    def run(x: tf.Tensor, kernel: tf.Tensor, *rest: tf.Tensor) -> Any:
        *bias, y, dy = rest
        return backward(x, kernel, y, dy)[: 2 + len(bias)]

    gradient = twice(run, reference.formula(activation))

    @tf.custom_gradient
    def op(x: tf.Tensor, kernel: tf.Tensor, *bias: tf.Tensor) -> tuple[tf.Tensor, Any]:
        y = forward(x, kernel, *bias)
        return y, lambda dy: gradient((x, kernel, *bias), (y,), (dy,))

    return op


def _forward(x: tf.Tensor, kernel: tf.Tensor, *bias: tf.Tensor, activation: str) -> tf.Tensor:
    function, _ = ACTIVATIONS[activation]
    sums, *added = widened(tf.matmul(x, kernel), *bias)  # [R, M]
    return tf.cast(function(sums + added[0] if added else sums), x.dtype)


def _backward(
    x: tf.Tensor, kernel: tf.Tensor, y: tf.Tensor, dy: tf.Tensor, *, activation: str
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    _, derivative = ACTIVATIONS[activation]
    out, above = widened(y, dy)
    sums = above * derivative(out)
    narrow = tf.cast(sums, x.dtype)
    if x.dtype in HALF:
        # Written once, for the products and the sum: else that makes it again, twice as slowly.
        (narrow,) = xla_ops.barrier(narrow)
        (sums,) = widened(narrow)
    dx = tf.matmul(narrow, kernel, transpose_b=True)
    dkernel = tf.matmul(x, narrow, transpose_a=True)
    return dx, dkernel, tf.cast(tf.reduce_sum(sums, axis=0), x.dtype)
