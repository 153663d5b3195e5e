"""The activation unit by the native kernels: the kept steps of one row at a time, in cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core import native
from recops._core.activations import ACTIVATIONS


def target_attention(
    query: tf.Tensor,
    keys: tf.Tensor,
    kernels: list[tf.Tensor],
    biases: list[tf.Tensor],
    mask: tf.Tensor,
    activation: str,
    normalize: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    network = tf.concat([tf.reshape(t, [-1]) for t in (*kernels, *biases)], axis=0)
    # The order of the kernel's `Activation`.
    number = list(ACTIVATIONS).index(activation)
    narrow = query.dtype in (tf.float16, tf.bfloat16)
    options = (number, int(normalize), int(narrow), *(k.shape[1] for k in kernels))

    @tf.custom_gradient
    def op(
        query: tf.Tensor, keys: tf.Tensor, mask: tf.Tensor, network: tf.Tensor
    ) -> tuple[tuple[tf.Tensor, tf.Tensor], Callable[..., Any]]:
        inputs = (query, keys, mask, network)
        # 16-bit weights are kept unrounded as well.
        pooled, weights, kept = native.call("TargetAttention", *inputs, options=options)

        def grad(dpooled: tf.Tensor, dweights: tf.Tensor) -> tuple[Any, ...]:
            dquery, dkeys, dnetwork = native.call(
                "TargetAttentionGrad",
                *(*inputs, weights, kept, dpooled, dweights),
                options=options,
            )
            return dquery, dkeys, None, dnetwork

        return (pooled, weights), grad

    return op(query, keys, mask, network)
