"""Attention as the paper writes it, with a mask, differentiated by TensorFlow."""

from __future__ import annotations

import tensorflow as tf

from recops._core.numerics import accumulate
from recops.ops.attention.padding import without_padding


@accumulate
def multi_head_attention(
    query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, mask: tf.Tensor, scale: float
) -> tf.Tensor:
    key, value = without_padding(key, mask), without_padding(value, mask)
    scores = tf.einsum("btne,bsne->bnts", query, key) * scale
    kept = tf.broadcast_to(mask, tf.shape(scores))
    zero = tf.zeros([], scores.dtype)
    # A row without a key is taken over all keys first, so that its gradient is no NaN.
    usable = tf.where(tf.reduce_any(kept, axis=-1, keepdims=True), kept, True)
    scores = tf.where(usable, scores, scores.dtype.min)
    weights = tf.where(kept, tf.nn.softmax(scores), zero)
    return tf.einsum("bnts,bsne->btne", weights, value)
