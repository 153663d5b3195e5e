"""Both losses with the backward by hand: it makes the logits again from one number a row.

The gathers stand outside the compiled programs: there their gradient stays a tf.IndexedSlices, and
inside a jitted step they join it all the same.

Of 16-bit inputs all that enters a product has 16 bits. Of bfloat16 the products of inputs and rows
have, too: they are what is moved. What is added to them, and the softmax, is float32. Shares of the
softmax are rounded before the gradient of the loss multiplies them, which may be small.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core import products, xla_ops
from recops._core.numerics import jit, jit_forward, twice, widened
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
    candidates = tf.concat([labels, ids], axis=0)
    rows = tf.gather(weights, candidates)  # [B + S, D]
    corrections = -tf.concat([log_labels, log_ids], axis=0)
    if biases is not None:
        corrections += tf.cast(tf.gather(biases, candidates), corrections.dtype)
    return _sampled(remove_accidental_hits)(inputs, rows, corrections, labels, ids)


@functools.cache
def _sampled(remove: bool) -> Callable[..., tf.Tensor]:
    """The loss of inputs [B, D] over candidate rows [B + S, D], the labels' own first."""
    forward = jit_forward(functools.partial(_forward, remove=remove))
    program = jit(functools.partial(_backward, remove=remove))

    def formula(
        inputs: tf.Tensor,
        rows: tf.Tensor,
        corrections: tf.Tensor,
        labels: tf.Tensor,
        ids: tf.Tensor,
    ) -> tf.Tensor:
        none = tf.zeros([], corrections.dtype)
        hits = labels[:, None] == ids if remove else None
        return reference.over_candidates(inputs, rows, corrections, none, none, hits)

    backward = twice(program, formula)

    @tf.custom_gradient
    def op(
        inputs: tf.Tensor,
        rows: tf.Tensor,
        corrections: tf.Tensor,
        labels: tf.Tensor,
        ids: tf.Tensor,
    ) -> tuple[tf.Tensor, Callable[..., Any]]:
        args = (inputs, rows, corrections, labels, ids)
        loss, total = forward(*args)

        def grad(dloss: tf.Tensor) -> tuple[Any, ...]:
            dinputs, drows, dcorrections = backward(args, (total,), (dloss,))
            return dinputs, drows, tf.cast(dcorrections, corrections.dtype), None, None

        return loss, grad

    return op


def _logits(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """The product of each row with each row, of at least 32 bits."""
    return widened(products.matmul(a, b, transpose_b=True, dtype=products.stored(a.dtype)))[0]


def _own(inputs: tf.Tensor, rows: tf.Tensor, corrections: tf.Tensor) -> tf.Tensor:
    """Logit of each label, [B]."""
    batch = tf.shape(inputs)[0]
    inputs, rows, corrections = widened(inputs, rows[:batch], corrections[:batch])
    return tf.reduce_sum(inputs * rows, axis=1) + corrections


def _others(
    inputs: tf.Tensor,
    rows: tf.Tensor,
    corrections: tf.Tensor,
    labels: tf.Tensor,
    ids: tf.Tensor,
    remove: bool,
) -> tf.Tensor:
    """Logits of the drawn ids, [B, S]."""
    batch = tf.shape(inputs)[0]
    logits = _logits(inputs, rows[batch:]) + widened(corrections[batch:])[0]
    return tf.where(labels[:, None] == ids, logits.dtype.min, logits) if remove else logits


def _forward(
    inputs: tf.Tensor,
    rows: tf.Tensor,
    corrections: tf.Tensor,
    labels: tf.Tensor,
    ids: tf.Tensor,
    *,
    remove: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The loss, and the logarithm of each row's sum of exponentials."""
    own = _own(inputs, rows, corrections)
    others = _others(inputs, rows, corrections, labels, ids, remove)
    top = tf.maximum(own, tf.reduce_max(others, axis=1))
    total = tf.exp(own - top) + tf.reduce_sum(tf.exp(others - top[:, None]), axis=1)
    total = top + tf.math.log(total)
    return tf.cast(total - own, inputs.dtype), total


def _backward(
    inputs: tf.Tensor,
    rows: tf.Tensor,
    corrections: tf.Tensor,
    labels: tf.Tensor,
    ids: tf.Tensor,
    total: tf.Tensor,
    dloss: tf.Tensor,
    *,
    remove: bool,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    batch, narrow = tf.shape(inputs)[0], inputs.dtype
    wide, of_labels, dloss = widened(inputs, rows[:batch], dloss)
    down = dloss * (tf.exp(_own(inputs, rows, corrections) - total) - 1)  # [B]
    others = _others(inputs, rows, corrections, labels, ids, remove)
    shares = tf.exp(others - total[:, None])  # [B, S]
    (rounded,) = xla_ops.barrier(tf.cast(shares, narrow))  # written once, as it is multiplied
    weighted = tf.cast(dloss[:, None] * wide, narrow)
    dinputs = dloss[:, None] * products.matmul(rounded, rows[batch:])
    dinputs += down[:, None] * of_labels
    drows = [
        tf.cast(down[:, None] * wide, narrow),
        products.matmul(rounded, weighted, transpose_a=True, dtype=narrow),
    ]
    dcorrections = [down, tf.reduce_sum(dloss[:, None] * widened(rounded)[0], axis=0)]
    return tf.cast(dinputs, narrow), tf.concat(drows, axis=0), tf.concat(dcorrections, axis=0)


def in_batch_softmax(
    queries: tf.Tensor,
    items: tf.Tensor,
    item_ids: tf.Tensor | None,
    log_q: tf.Tensor,
    temperature: float,
) -> tf.Tensor:
    if item_ids is None:
        item_ids = tf.range(tf.shape(items)[0])
    return _in_batch(temperature)(queries, items, -log_q, item_ids)


@functools.cache
def _in_batch(temperature: float) -> Callable[..., tf.Tensor]:
    options = {"temperature": temperature}
    forward = jit_forward(functools.partial(_batch_forward, **options))
    program = jit(functools.partial(_batch_backward, **options))

    def formula(
        queries: tf.Tensor, items: tf.Tensor, corrections: tf.Tensor, ids: tf.Tensor
    ) -> tf.Tensor:
        return reference.in_batch_softmax(queries, items, ids, -corrections, temperature)

    backward = twice(program, formula)

    @tf.custom_gradient
    def op(
        queries: tf.Tensor, items: tf.Tensor, corrections: tf.Tensor, ids: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[..., Any]]:
        args = (queries, items, corrections, ids)
        loss, total = forward(*args)

        def grad(dloss: tf.Tensor) -> tuple[Any, ...]:
            dqueries, ditems, dcorrections = backward(args, (total,), (dloss,))
            return dqueries, ditems, tf.cast(dcorrections, corrections.dtype), None

        return loss, grad

    return op


def _batch_logits(
    queries: tf.Tensor,
    items: tf.Tensor,
    corrections: tf.Tensor,
    ids: tf.Tensor,
    temperature: float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Logits [B, B] without equal ids off the diagonal, and the diagonal as a mask."""
    row = tf.range(tf.shape(items)[0])
    # `tf.eye` would be a constant of that size, read again and again.
    diagonal = row[:, None] == row
    logits = _logits(queries, items) / temperature + widened(corrections)[0]
    twins = (ids[:, None] == ids) & ~diagonal
    return tf.where(twins, logits.dtype.min, logits), diagonal


def _batch_forward(
    queries: tf.Tensor,
    items: tf.Tensor,
    corrections: tf.Tensor,
    ids: tf.Tensor,
    *,
    temperature: float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The loss, and the logarithm of each row's sum of exponentials."""
    logits, diagonal = _batch_logits(queries, items, corrections, ids, temperature)
    # XLA for a GPU makes one kernel of this as long as nothing else reads the maximum.
    shifted = logits - tf.reduce_max(logits, axis=1, keepdims=True)
    shares = shifted - tf.math.log(tf.reduce_sum(tf.exp(shifted), axis=1, keepdims=True))
    none = tf.zeros([], logits.dtype)
    loss = -tf.reduce_sum(tf.where(diagonal, shares, none), axis=1)
    own = tf.gather(logits, tf.range(tf.shape(logits)[0]), axis=1, batch_dims=1)
    return tf.cast(loss, queries.dtype), own + loss


def _batch_backward(
    queries: tf.Tensor,
    items: tf.Tensor,
    corrections: tf.Tensor,
    ids: tf.Tensor,
    total: tf.Tensor,
    dloss: tf.Tensor,
    *,
    temperature: float,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    logits, diagonal = _batch_logits(queries, items, corrections, ids, temperature)
    narrow = queries.dtype
    wide, above = widened(queries, dloss[:, None])
    shares = tf.exp(logits - total[:, None])
    shares = tf.where(diagonal, shares - 1, shares)
    late = tf.ones_like(above)
    if narrow == tf.float16:  # in which a gradient may be too small to be a factor before a sum
        above, late = late, above
    # Written once, in the dtype that is multiplied, for all that read it.
    (rounded,) = xla_ops.barrier(tf.cast(above * shares, narrow))
    weighted = tf.cast(late * wide, narrow)
    dqueries = late * products.matmul(rounded, items) / temperature
    ditems = products.matmul(rounded, weighted, transpose_a=True) / temperature
    dcorrections = tf.reduce_sum(late * widened(rounded)[0], axis=0)
    return tf.cast(dqueries, narrow), tf.cast(ditems, narrow), dcorrections
