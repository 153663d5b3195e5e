"""The kernel as it meets the outer products; those of the fields with each other are symmetric."""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf


@functools.cache
def square_map(fields: int) -> np.ndarray:
    """Number of the unordered pair (i, j), i = j included, flattened [F * F]."""
    low, high = np.triu_indices(fields)
    table = np.zeros((fields, fields), np.int32)
    table[low, high] = table[high, low] = np.arange(len(low), dtype=np.int32)
    return table.reshape(-1)


def flat(kernel: tf.Tensor, itself: bool) -> tf.Tensor:
    """[H, Hk, F] -> [H, Hk F].

    `itself`, the maps being the fields: -> [H, F (F+1) / 2], where the weights of (i, j) and (j, i)
    act as one.
    """
    rows = tf.reshape(kernel, [kernel.shape[0], -1])
    if not itself:
        return rows
    fields = kernel.shape[2]
    low, high = np.triu_indices(fields)
    both = tf.gather(rows, low * fields + high, axis=1)
    swapped = tf.gather(rows, high * fields + low, axis=1)
    return both + tf.where(low == high, tf.zeros([], kernel.dtype), swapped)


def unfold(dweights: tf.Tensor, kernel: tf.Tensor, itself: bool) -> tf.Tensor:
    """The gradient of a kernel from that of its weights."""
    if itself:
        dweights = tf.gather(dweights, square_map(kernel.shape[2]), axis=1)
    return tf.reshape(dweights, kernel.shape)
