"""The activation unit as its authors write it, with a mask, differentiated by TensorFlow."""

from __future__ import annotations

import tensorflow as tf

from recops._core.activations import ACTIVATIONS
from recops._core.numerics import accumulate
from recops.ops.target_attention.unit import weigh, without_padding


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
    keys = without_padding(keys, mask)
    q = tf.broadcast_to(query[:, None], tf.shape(keys))
    x = tf.concat([q, keys, q - keys, q * keys], axis=2)  # [B, T, 4D]
    for kernel, bias in zip(kernels[:-1], biases):
        x = function(tf.tensordot(x, kernel, 1) + bias)
    scores = tf.squeeze(tf.tensordot(x, kernels[-1], 1) + biases[-1], axis=2)  # [B, T]
    return weigh(scores, keys, mask, normalize)
