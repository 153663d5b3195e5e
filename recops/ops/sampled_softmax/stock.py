"""What a Keras user writes for these losses today; benches compare with the fastest."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def _tf_sampled(
    inputs: tf.Tensor,
    labels: tf.Tensor,
    weights: tf.Tensor,
    biases: tf.Tensor | None = None,
    *,
    num_sampled: int,
    sampled: Sequence[tf.Tensor],
    remove_accidental_hits: bool = True,
) -> tf.Tensor:
    """TensorFlow's own loss, which takes the counts, not their logarithms."""
    ids, log_labels, log_ids = sampled
    classes = weights.shape[0]
    return tf.nn.sampled_softmax_loss(
        weights,
        tf.zeros([classes], inputs.dtype) if biases is None else biases,
        tf.cast(labels, tf.int64)[:, None],
        inputs,
        num_sampled=num_sampled,
        num_classes=classes,
        sampled_values=(tf.cast(ids, tf.int64), tf.exp(log_labels)[:, None], tf.exp(log_ids)),
        remove_accidental_hits=remove_accidental_hits,
    )


def _gather_matmul(
    inputs: tf.Tensor,
    labels: tf.Tensor,
    weights: tf.Tensor,
    biases: tf.Tensor | None = None,
    *,
    num_sampled: int,
    sampled: Sequence[tf.Tensor],
    remove_accidental_hits: bool = True,
) -> tf.Tensor:
    """Two gathers, a product and a softmax, which also run under jit_compile."""
    ids, log_labels, log_ids = sampled
    own = tf.reduce_sum(inputs * tf.gather(weights, labels), axis=1) - log_labels
    others = tf.matmul(inputs, tf.gather(weights, ids), transpose_b=True) - log_ids
    if biases is not None:
        own += tf.gather(biases, labels)
        others += tf.gather(biases, ids)
    if remove_accidental_hits:
        hits = labels[:, None] == tf.cast(ids, labels.dtype)
        others = tf.where(hits, tf.constant(others.dtype.min, others.dtype), others)
    logits = tf.concat([own[:, None], others], axis=1)
    first = tf.zeros([tf.shape(inputs)[0]], tf.int32)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(first, logits)


def _matmul(
    queries: tf.Tensor,
    items: tf.Tensor,
    item_ids: tf.Tensor | None = None,
    log_q: tf.Tensor | None = None,
    temperature: float = 1.0,
) -> tf.Tensor:
    logits = tf.matmul(queries, items, transpose_b=True) / temperature
    if log_q is not None:
        logits -= log_q
    batch = tf.shape(items)[0]
    if item_ids is not None:
        twins = (item_ids[:, None] == item_ids) & ~tf.eye(batch, dtype=tf.bool)
        logits = tf.where(twins, tf.constant(logits.dtype.min, logits.dtype), logits)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.range(batch), logits)


# TensorFlow has no XLA kernel for its accidental hits, so this form cannot be jitted.
GRAPH_ONLY = {"tf_nn"}

FORMS = {
    "sampled_softmax": {"gather_matmul": _gather_matmul, "tf_nn": _tf_sampled},
    "in_batch_softmax": {"matmul": _matmul},
}
