"""Pairwise interactions as the formulas stand, one Python loop over the pairs."""

from __future__ import annotations

import itertools

import tensorflow as tf

from recops._core.numerics import accumulate


def _pairs(x: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Both sides of each pair, [B, D] each.

    Unstacked once: the gradient of a slice a pair would be a tensor of the size of x each, 30 GB
    for 39 fields of 4096 examples.
    """
    return list(itertools.combinations(tf.unstack(x, axis=1), 2))


@accumulate
def pairwise_inner(x: tf.Tensor) -> tf.Tensor:
    return tf.stack([tf.reduce_sum(a * b, axis=1) for a, b in _pairs(x)], axis=1)


@accumulate
def pairwise_hadamard(x: tf.Tensor) -> tf.Tensor:
    return tf.stack([a * b for a, b in _pairs(x)], axis=1)


@accumulate
def bi_interaction(x: tf.Tensor) -> tf.Tensor:
    return tf.add_n([a * b for a, b in _pairs(x)])


@accumulate
def fm_interaction(x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(bi_interaction(x), axis=1, keepdims=True)


@accumulate
def field_aware_interaction(x: tf.Tensor) -> tf.Tensor:
    rows = [tf.unstack(row, axis=1) for row in tf.unstack(x, axis=1)]
    pairs = itertools.combinations(range(x.shape[1]), 2)
    products = tf.add_n([rows[i][j] * rows[j][i] for i, j in pairs])
    return tf.reduce_sum(products, axis=1, keepdims=True)
