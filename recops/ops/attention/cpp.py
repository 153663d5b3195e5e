"""Attention by the native kernels: the scores of one head of one row at a time, in cache."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core import native
from recops._core.numerics import twice
from recops.ops.attention import reference


def multi_head_attention(
    query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, mask: tf.Tensor, scale: float
) -> tf.Tensor:
    # The bits of a double: an option is an integer, and a tensor would round it to its own dtype.
    options = struct.unpack("<q", struct.pack("<d", scale))

    backward = twice(
        functools.partial(native.call, "MultiHeadAttentionGrad", options=options),
        functools.partial(reference.multi_head_attention, scale=scale),
    )

    @tf.custom_gradient
    def op(
        query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, mask: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[..., Any]]:
        inputs = (query, key, value, mask)

        def grad(dout: tf.Tensor) -> tuple[Any, ...]:
            return (*backward(inputs, (), (dout,)), None)

        return native.call("MultiHeadAttention", *inputs, options=options), grad

    return op(query, key, value, mask)
