"""Keys that no query keeps are padding, and padding may hold anything."""

from __future__ import annotations

import tensorflow as tf


def without_padding(tensor: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Keys or values [B, S, N, E], zero where the mask [B, N, T, S] keeps a key for no query.

    A weight of zero does not silence a NaN in the product that it enters.
    """
    some = tf.reduce_any(mask, axis=[1, 2])[:, :, None, None]
    return tf.where(some, tensor, tf.zeros([], tensor.dtype))
