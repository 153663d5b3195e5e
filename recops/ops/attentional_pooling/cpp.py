"""Attentional pooling by the native kernel: neither products nor hidden layer leave the cache."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from recops._core import native


@tf.custom_gradient
def attentional_pooling(
    x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, projection: tf.Tensor
) -> tuple[tuple[tf.Tensor, tf.Tensor], Callable[..., tuple[tf.Tensor, ...]]]:
    inputs = (x, kernel, bias, projection)
    options = [int(x.dtype.size == 2)]  # 16-bit weights are kept unrounded for the backward
    pooled, *weights = native.call("AttentionalPooling", *inputs, options=options)

    def grad(dpooled: tf.Tensor, dweights: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return native.call(
            "AttentionalPoolingGrad", *inputs, *weights, dpooled, dweights, options=options
        )

    return (pooled, weights[0]), grad
