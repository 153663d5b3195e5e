"""The compressed interaction network as the formula stands, with the outer product whole."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from recops._core.numerics import accumulate


@accumulate
def compressed_interaction(
    x0: tf.Tensor, xk: tf.Tensor, kernel: tf.Tensor, itself: bool
) -> tf.Tensor:
    outer = xk[:, :, None] * x0[:, None]  # [B, Hk, F, D]
    return tf.einsum("bhfd,ohf->bod", outer, kernel)


def stacked(
    layer: Callable[[tf.Tensor, tf.Tensor, tf.Tensor, bool], tf.Tensor],
    x: tf.Tensor,
    kernels: Sequence[tf.Tensor],
    biases: Sequence[tf.Tensor],
    activation: Callable[[tf.Tensor], tf.Tensor],
    split_half: bool,
) -> tf.Tensor:
    state, outputs = x, []
    for k, kernel in enumerate(kernels):
        state = layer(x, state, kernel, k == 0)
        if biases:
            state = state + biases[k][:, None]
        shown = state = activation(state)
        if split_half and k < len(kernels) - 1:
            state, shown = tf.split(state, 2, axis=1)
        outputs.append(tf.reduce_sum(shown, axis=2))
    return tf.concat(outputs, axis=1)


cin = accumulate(functools.partial(stacked, compressed_interaction))
