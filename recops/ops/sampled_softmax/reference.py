"""Both losses as the formulas stand, with all logits [B, 1 + S] or [B, B]."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops._core.numerics import accumulate


def sampled_softmax(
    inputs: tf.Tensor,
    labels: tf.Tensor,
    weights: Any,
    biases: tf.Tensor | None,
    ids: tf.Tensor,
    log_labels: tf.Tensor,
    log_ids: tf.Tensor,
    remove_accidental_hits: bool,
) -> tf.Tensor:
    candidates = tf.concat([labels, ids], axis=0)
    rows = tf.gather(weights, candidates)
    shifts = None if biases is None else tf.gather(biases, candidates)
    hits = labels[:, None] == ids if remove_accidental_hits else None
    return over_candidates(inputs, rows, shifts, log_labels, log_ids, hits)


@accumulate
def over_candidates(
    inputs: tf.Tensor,
    rows: tf.Tensor,
    shifts: tf.Tensor | None,
    log_labels: tf.Tensor,
    log_ids: tf.Tensor,
    hits: tf.Tensor | None,
) -> tf.Tensor:
    """The loss over candidate rows [B + S, D], the labels' own first."""
    batch = tf.shape(inputs)[0]
    own = tf.reduce_sum(inputs * rows[:batch], axis=1) - log_labels
    others = tf.matmul(inputs, rows[batch:], transpose_b=True) - log_ids
    if shifts is not None:
        own, others = own + shifts[:batch], others + shifts[batch:]
    if hits is not None:
        others = tf.where(hits, others.dtype.min, others)
    logits = tf.concat([own[:, None], others], axis=1)
    return tf.reduce_logsumexp(logits, axis=1) - own


@accumulate
def in_batch_softmax(
    queries: tf.Tensor,
    items: tf.Tensor,
    item_ids: tf.Tensor | None,
    log_q: tf.Tensor,
    temperature: float,
) -> tf.Tensor:
    logits = tf.matmul(queries, items, transpose_b=True) / temperature - log_q
    if item_ids is not None:
        twins = (item_ids[:, None] == item_ids) & ~tf.eye(tf.shape(items)[0], dtype=tf.bool)
        logits = tf.where(twins, logits.dtype.min, logits)
    return tf.reduce_logsumexp(logits, axis=1) - tf.linalg.diag_part(logits)
