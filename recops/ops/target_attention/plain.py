"""The activation unit with its first layer folded into each target, for programs that are served.

[q, k, q - k, q * k] W is k times a matrix of the target's own and one row of the target alone: a
quarter of the work, and nothing of [B, T, 4D].
"""

from __future__ import annotations

import tensorflow as tf

from recops._core.activations import ACTIVATIONS
from recops._core.numerics import accumulate
from recops.ops.target_attention.unit import folded, weigh, without_padding


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
    own, of_target, _ = folded(query, kernels[0])
    x = tf.matmul(keys, own) + (tf.matmul(query, of_target) + biases[0])[:, None]  # [B, T, A]
    for kernel, bias in zip(kernels[1:], biases[1:]):
        x = tf.tensordot(function(x), kernel, 1) + bias
    return weigh(tf.squeeze(x, axis=2), keys, mask, normalize)
