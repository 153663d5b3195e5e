"""Pairwise interactions as the formulas stand, one Python loop over the pairs."""

from __future__ import annotations

import itertools

import tensorflow as tf

from recops._core.numerics import accumulate


@accumulate
def pairwise_inner(x: tf.Tensor) -> tf.Tensor:
    pairs = itertools.combinations(range(x.shape[1]), 2)
    return tf.stack([tf.reduce_sum(x[:, i] * x[:, j], axis=1) for i, j in pairs], axis=1)


@accumulate
def pairwise_hadamard(x: tf.Tensor) -> tf.Tensor:
    pairs = itertools.combinations(range(x.shape[1]), 2)
    return tf.stack([x[:, i] * x[:, j] for i, j in pairs], axis=1)


@accumulate
def bi_interaction(x: tf.Tensor) -> tf.Tensor:
    return tf.add_n([x[:, i] * x[:, j] for i, j in itertools.combinations(range(x.shape[1]), 2)])


@accumulate
def fm_interaction(x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(bi_interaction(x), axis=1, keepdims=True)


@accumulate
def field_aware_interaction(x: tf.Tensor) -> tf.Tensor:
    pairs = itertools.combinations(range(x.shape[1]), 2)
    products = tf.add_n([x[:, i, j] * x[:, j, i] for i, j in pairs])
    return tf.reduce_sum(products, axis=1, keepdims=True)
