"""Attentional pooling by the native kernel: neither products nor hidden layer leave the cache."""

from __future__ import annotations

import functools
from collections.abc import Callable

import tensorflow as tf

from recops._core import native
from recops._core.numerics import twice
from recops.ops.attentional_pooling import reference


@tf.custom_gradient
def attentional_pooling(
    x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, projection: tf.Tensor
) -> tuple[tuple[tf.Tensor, tf.Tensor], Callable[..., list[tf.Tensor]]]:
    inputs = (x, kernel, bias, projection)
    options = [int(x.dtype.size == 2)]  # 16-bit weights are kept unrounded for the backward
    pooled, *weights = native.call("AttentionalPooling", *inputs, options=options)

    backward = twice(
        functools.partial(native.call, "AttentionalPoolingGrad", options=options),
        reference.attentional_pooling,
    )

    def grad(dpooled: tf.Tensor, dweights: tf.Tensor) -> list[tf.Tensor]:
        return backward(inputs, weights, (dpooled, dweights))

    return (pooled, weights[0]), grad
