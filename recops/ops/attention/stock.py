"""What a Keras user writes for attention: two einsums about a masked softmax, or Keras's own op."""

from __future__ import annotations

import tensorflow as tf


def _kept(
    mask: tf.Tensor | None, causal: bool, query: tf.Tensor, key: tf.Tensor
) -> tf.Tensor | None:
    """The mask as [B, 1 or N, 1 or T, S]."""
    if mask is not None and mask.shape.rank < 4:
        mask = mask[:, None, None] if mask.shape.rank == 2 else mask[:, None]
    if causal:
        steps, sources = tf.shape(query)[1], tf.shape(key)[1]
        earlier = (tf.range(sources) <= tf.range(steps)[:, None])[None, None]
        mask = earlier if mask is None else mask & earlier
    return mask


def _masked_softmax(
    query: tf.Tensor,
    key: tf.Tensor,
    value: tf.Tensor,
    mask: tf.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> tf.Tensor:
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = tf.einsum("btne,bsne->bnts", query * scale, key)
    kept = _kept(mask, causal, query, key)
    if kept is not None:
        scores = tf.where(kept, scores, tf.constant(scores.dtype.min, scores.dtype))
    weights = tf.nn.softmax(scores)
    if kept is not None:
        weights = tf.where(kept, weights, tf.zeros([], weights.dtype))
    return tf.einsum("bnts,bsne->btne", weights, value)


def _heads_first(
    query: tf.Tensor,
    key: tf.Tensor,
    value: tf.Tensor,
    mask: tf.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> tf.Tensor:
    """Heads transposed to the front, as most Transformer code has it."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    q, k, v = (tf.transpose(t, [0, 2, 1, 3]) for t in (query, key, value))
    scores = tf.matmul(q * scale, k, transpose_b=True)
    kept = _kept(mask, causal, query, key)
    if kept is not None:
        scores = tf.where(kept, scores, tf.constant(scores.dtype.min, scores.dtype))
    weights = tf.nn.softmax(scores)
    if kept is not None:
        weights = tf.where(kept, weights, tf.zeros([], weights.dtype))
    return tf.transpose(tf.matmul(weights, v), [0, 2, 1, 3])


FORMS = {"multi_head_attention": {"einsum_softmax": _masked_softmax, "heads_first": _heads_first}}
