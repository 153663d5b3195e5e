"""What the forms share: zero for keys that no query keeps, and the order of axes."""

from __future__ import annotations

import tensorflow as tf


def without_padding(tensor: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Keys or values [B, S, N, E], zero where the mask [B, N, T, S] keeps a key for no query.

    A weight of zero does not silence a NaN in the product that it enters.
    """
    some = tf.reduce_any(mask, axis=[1, 2])[:, :, None, None]
    return tf.where(some, tensor, tf.zeros([], tensor.dtype))


def heads_first(*tensors: tf.Tensor) -> list[tf.Tensor]:
    """[B, T, N, E] <-> [B, N, T, E], in which every product is a batch of GEMMs as it stands."""
    return [tf.transpose(tensor, [0, 2, 1, 3]) for tensor in tensors]
