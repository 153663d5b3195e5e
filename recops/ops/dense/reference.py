"""The dense layer as the formula stands."""

from __future__ import annotations

import tensorflow as tf

from recops._core.activations import ACTIVATIONS
from recops._core.numerics import accumulate


@accumulate
def dense(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | None, activation: str) -> tf.Tensor:
    function, _ = ACTIVATIONS[activation]
    sums = tf.matmul(x, kernel)  # [R, M]
    return function(sums if bias is None else sums + bias)
