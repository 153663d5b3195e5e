"""What the backends and the layer share of the unit: padding, the fold, and the weighing."""

from __future__ import annotations

import tensorflow as tf


def without_padding(keys: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Keys [B, T, D], zero where masked.

    A weight of zero does not silence a NaN in the product that it enters.
    """
    return tf.where(mask[:, :, None], keys, tf.zeros([], keys.dtype))


def folded(query: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Each example's kernel [B, D, A] for its keys; the target's [D, A], added and multiplied."""
    of_query, of_key, of_difference, of_product = tf.split(kernel, 4)
    own = (of_key - of_difference) + query[:, :, None] * of_product
    return own, of_query + of_difference, of_product


def weigh(
    scores: tf.Tensor, keys: tf.Tensor, mask: tf.Tensor, normalize: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Pooled keys [B, D], which hold no padding, and the weights [B, T] of their scores."""
    if normalize:
        scores = tf.nn.softmax(tf.where(mask, scores, scores.dtype.min))
    # A row without a key is uniform until here.
    weights = tf.where(mask, scores, tf.zeros([], scores.dtype))
    return tf.reduce_sum(weights[:, :, None] * keys, axis=1), weights
