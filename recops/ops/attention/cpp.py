"""Attention by the native kernels: the scores of one head of one row at a time, in cache."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core import native


def multi_head_attention(
    query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, mask: tf.Tensor, scale: float
) -> tf.Tensor:
    # The bits of a double: an option is an integer, and a tensor would round it to its own dtype.
    options = struct.unpack("<q", struct.pack("<d", scale))

    @tf.custom_gradient
    def op(
        query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, mask: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[..., Any]]:
        inputs = (query, key, value, mask)

        def grad(dout: tf.Tensor) -> tuple[Any, ...]:
            return (*native.call("MultiHeadAttentionGrad", *inputs, dout, options=options), None)

        return native.call("MultiHeadAttention", *inputs, options=options), grad

    return op(query, key, value, mask)
