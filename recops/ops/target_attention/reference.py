"""The activation unit as its authors write it, with a mask, differentiated by TensorFlow."""

from __future__ import annotations

import tensorflow as tf

from recops._core.numerics import accumulate
from recops.ops.target_attention.activations import ACTIVATIONS


@accumulate
def target_attention(
    query: tf.Tensor,
    keys: tf.Tensor,
    kernels: list[tf.Tensor],
    biases: list[tf.Tensor],
    mask: tf.Tensor,
    activation: str,
    normalize: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    function, _ = ACTIVATIONS[activation]
    zero = tf.zeros([], keys.dtype)
    keys = tf.where(mask[:, :, None], keys, zero)  # a weight of 0 would not silence a NaN
    q = tf.broadcast_to(query[:, None], tf.shape(keys))
    x = tf.concat([q, keys, q - keys, q * keys], axis=2)  # [B, T, 4D]
    for kernel, bias in zip(kernels[:-1], biases):
        x = function(tf.tensordot(x, kernel, 1) + bias)
    scores = tf.squeeze(tf.tensordot(x, kernels[-1], 1) + biases[-1], axis=2)  # [B, T]
    if normalize:
        # A row without a key is taken over all keys first, so that its gradient is no NaN.
        usable = tf.where(tf.reduce_any(mask, axis=1, keepdims=True), mask, True)
        scores = tf.nn.softmax(tf.where(usable, scores, scores.dtype.min))
    weights = tf.where(mask, scores, zero)
    return tf.reduce_sum(weights[:, :, None] * keys, axis=1), weights
