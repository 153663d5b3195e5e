"""The dense layer natively: a block of rows is multiplied and finished while it is in the cache."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core import native
from recops._core.activations import ACTIVATIONS


def dense(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | None, activation: str) -> tf.Tensor:
    return _op(activation)(*((x, kernel) if bias is None else (x, kernel, bias)))


@functools.cache
def _op(activation: str) -> Callable[..., tf.Tensor]:
    number = list(ACTIVATIONS).index(activation)

    @tf.custom_gradient
    def op(x: tf.Tensor, kernel: tf.Tensor, *bias: tf.Tensor) -> tuple[tf.Tensor, Any]:
        options = (number, len(bias))
        y = native.call("Dense", x, kernel, *(bias or [tf.zeros([0], x.dtype)]), options=options)
        # Without an activation nobody has to keep the results.
        kept = tf.zeros([0, 0], x.dtype) if activation == "linear" else y

        def gradient(dy: tf.Tensor) -> Any:
            return native.call("DenseGrad", x, kernel, kept, dy, options=options)[: 2 + len(bias)]

        return y, gradient

    return op
