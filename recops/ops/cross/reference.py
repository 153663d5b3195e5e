"""The cross network as the papers write it, one layer after the other."""

from __future__ import annotations

import tensorflow as tf

from recops._core.numerics import accumulate


@accumulate
def cross_network(x: tf.Tensor, kernels: list[tf.Tensor], biases: list[tf.Tensor]) -> tf.Tensor:
    state = x
    for kernel, bias in zip(kernels, biases):
        if kernel.shape.rank == 1:
            weight = tf.reduce_sum(state * kernel, axis=1, keepdims=True)  # [B, 1]
            state = x * weight + bias + state
        else:
            state = x * (tf.matmul(state, kernel) + bias) + state
    return state
