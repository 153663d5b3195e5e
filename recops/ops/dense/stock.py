"""What a Keras user has for a dense layer today: the product, the bias, the activation."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops._core.activations import ACTIVATIONS


def _by_ops(
    x: tf.Tensor, kernel: tf.Tensor, bias: Any = None, activation: str | None = None
) -> tf.Tensor:
    function, _ = ACTIVATIONS[activation or "linear"]
    sums = tf.tensordot(x, kernel, 1)
    return function(sums if bias is None else tf.nn.bias_add(sums, bias))


FORMS = {"dense": {"keras": _by_ops}}
