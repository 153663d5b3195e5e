"""What a Keras user writes for the cross network today."""

from __future__ import annotations

import tensorflow as tf


def _layer_by_layer(x: tf.Tensor, kernels: list[tf.Tensor], biases: list[tf.Tensor]) -> tf.Tensor:
    state = x
    for kernel, bias in zip(kernels, biases):
        if kernel.shape.rank == 1:
            state = x * tf.matmul(state, kernel[:, None]) + bias + state
        else:
            state = x * (tf.matmul(state, kernel) + bias) + state
    return state


def _outer_free_tensordot(
    x: tf.Tensor, kernels: list[tf.Tensor], biases: list[tf.Tensor]
) -> tf.Tensor:
    """DeepCTR's way: a column per example, a tensordot per layer."""
    if kernels and kernels[0].shape.rank == 2:
        return _layer_by_layer(x, kernels, biases)
    column = x[:, :, None]  # [B, n, 1]
    state = column
    for kernel, bias in zip(kernels, biases):
        weight = tf.tensordot(state, kernel[:, None], axes=(1, 0))  # [B, 1, 1]
        state = tf.matmul(column, weight) + bias[:, None] + state
    return tf.squeeze(state, axis=2)


FORMS = {"cross_network": {"layers": _layer_by_layer, "tensordot": _outer_free_tensordot}}
