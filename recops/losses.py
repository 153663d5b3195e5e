"""Losses that Keras lacks. All are float32 inside and leave out what is masked."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops._core import checks
from recops._core.numerics import widened

REDUCTIONS = ("masked_mean", "mean")


def auxiliary_loss(
    click_logits: Any, negative_logits: Any, mask: Any = None, reduction: str = "masked_mean"
) -> tf.Tensor:
    """Auxiliary loss of DIEN: each interest tells the next click from a behaviour that was not.

        loss[b, t] = -log sigmoid(click_logits[b, t]) - log(1 - sigmoid(negative_logits[b, t]))

    Args:
      click_logits: [B, T], float: how well interest t fits behaviour t + 1.
      negative_logits: [B, T], dtype of `click_logits`: how well it fits a sampled one.
      mask: [B, T] bool, True = keep, None keeps all: whether both steps are behaviours.
      reduction: "masked_mean", the mean over the kept steps, or "mean", the sum over the kept steps
        divided by B T, as the authors' code has it: padding makes the loss small there.

    Returns: scalar, float32 (float64 for float64 logits); 0 when no step is kept.

    Raises: ValueError for a wrong shape, dtype or reduction.

    Numerics: cross-entropy of logits, in float32 at least. What is masked, NaN included, changes
    neither loss nor gradient.

    Source: Zhou et al., Deep Interest Evolution Network, AAAI 2019, eq. 7, which sums over the
    steps of an example; both reductions here average over them.

    Example:
      >>> import numpy as np
      >>> logits = np.zeros((1, 2), "float32")
      >>> round(float(auxiliary_loss(logits, logits, np.array([[True, False]]))), 4)
      1.3863
    """
    op = "auxiliary_loss"
    clicks = checks.floats(op, "click_logits", click_logits, "B T")
    size = checks.sizes(clicks, 0, 1)
    negatives = checks.floats(op, "negative_logits", negative_logits, size, clicks.dtype)
    checks.choice(op, "reduction", reduction, REDUCTIONS)
    mask = tf.ones(tf.shape(clicks), tf.bool) if mask is None else mask
    kept = checks.mask(op, "mask", mask, size)
    clicks, negatives = widened(clicks, negatives)
    zero = tf.zeros([], clicks.dtype)
    # -log sigmoid(x) = softplus(-x), and -log(1 - sigmoid(x)) = softplus(x).
    terms = tf.nn.softplus(tf.where(kept, -clicks, zero)) + tf.nn.softplus(
        tf.where(kept, negatives, zero)
    )
    total = tf.reduce_sum(tf.where(kept, terms, zero))
    counted = kept if reduction == "masked_mean" else tf.ones_like(kept)
    return tf.math.divide_no_nan(total, tf.reduce_sum(tf.cast(counted, total.dtype)))
