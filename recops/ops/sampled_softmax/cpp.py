"""Both losses by one native kernel: tiles of logits that never leave the cache.

The gathers stand outside, so that their gradient stays a tf.IndexedSlices outside jit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core import native
from recops._core.numerics import twice
from recops.ops.sampled_softmax import reference


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
    own, others = tf.gather(weights, labels), tf.gather(weights, ids)
    own_shift, shift = -log_labels, -log_ids
    if biases is not None:
        own_shift += tf.cast(tf.gather(biases, labels), own_shift.dtype)
        shift += tf.cast(tf.gather(biases, ids), shift.dtype)
    return _loss(bool(remove_accidental_hits))(inputs, own, others, own_shift, shift, labels, ids)


def in_batch_softmax(
    queries: tf.Tensor,
    items: tf.Tensor,
    item_ids: tf.Tensor | None,
    log_q: tf.Tensor,
    temperature: float,
) -> tf.Tensor:
    if item_ids is None:
        item_ids = tf.range(tf.shape(items)[0])
    # A row's own item is a hit among the items of the batch, and counts once, as its own.
    loss = _loss(True, 1 / temperature)
    return loss(queries, items, items, -log_q, -log_q, item_ids, item_ids)


@functools.cache
def _loss(remove: bool, factor: float = 1.0) -> Callable[..., tf.Tensor]:
    options = [int(remove)]

    def formula(
        inputs: tf.Tensor,
        own: tf.Tensor,
        others: tf.Tensor,
        own_shift: tf.Tensor,
        shift: tf.Tensor,
        labels: tf.Tensor,
        ids: tf.Tensor,
    ) -> tf.Tensor:
        rows = tf.concat([own, others], axis=0)
        hits = labels[:, None] == ids if remove else None
        return reference.over_candidates(factor * inputs, rows, None, -own_shift, -shift, hits)

    backward = twice(functools.partial(native.call, "SampledSoftmaxGrad", options=options), formula)

    @tf.custom_gradient
    def op(*args: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        scale = tf.constant(factor, args[3].dtype)  # that of the shifts
        loss, total = native.call("SampledSoftmax", *args, scale, options=options)

        def grad(dloss: tf.Tensor) -> tuple[Any, ...]:
            return *backward(args, (scale, total), (dloss,)), None, None

        return loss, grad

    return op
