"""One gather for all fields, and bags pooled in one program with the backward by hand.

The gathers stand outside the compiled programs: there their gradient stays a tf.IndexedSlices, and
inside a jitted step they join it all the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core.numerics import accumulate, jit, jit_forward
from recops.ops.embedding.rows import bag_rows, field_rows, poison


def embedding_lookup(table: tf.Tensor, ids: tf.Tensor, offsets: tf.Tensor) -> tf.Tensor:
    rows, valid = field_rows("embedding_lookup", ids, offsets, tf.shape(table)[0])
    return poison(tf.gather(table, rows), valid)


def embedding_bag(
    table: tf.Tensor, ids: tf.Tensor, mask: tf.Tensor, weights: tf.Tensor | None, combiner: str
) -> tf.Tensor:
    rows, valid = bag_rows("embedding_bag", tf.where(mask, ids, 0), tf.shape(table)[0])
    values = tf.gather(table, rows)  # [B, T, D]
    if weights is None:
        bags = _pool(combiner)(values, mask)
    else:
        bags = _weighted_pool(combiner)(values, mask, weights)
    return poison(bags, tf.reduce_all(valid, axis=1))


def _coefficients(weights: tf.Tensor, combiner: str) -> tuple[tf.Tensor, tf.Tensor]:
    """w / s [B, T] with the scale s [B, 1] of the combiner, and 1 / s, 0 for an empty bag."""
    if combiner == "sum":
        inverse = tf.ones_like(weights[:, :1])
    elif combiner == "mean":
        total = tf.reduce_sum(weights, axis=1, keepdims=True)
        inverse = tf.math.divide_no_nan(tf.ones_like(total), total)
    else:
        squares = tf.reduce_sum(tf.square(weights), axis=1, keepdims=True)
        inverse = tf.where(squares > 0, tf.math.rsqrt(tf.where(squares > 0, squares, 1)), 0)
    return weights * inverse, inverse


def _kept(mask: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    return tf.where(mask, values, tf.zeros([], values.dtype))


def _forward(values: tf.Tensor, mask: tf.Tensor, weights: tf.Tensor, combiner: str) -> tf.Tensor:
    scaled, _ = _coefficients(_kept(mask, weights), combiner)
    return tf.reduce_sum(scaled[..., None] * _kept(mask[..., None], values), axis=1)


def _backward(
    values: tf.Tensor, mask: tf.Tensor, weights: tf.Tensor, dy: tf.Tensor, combiner: str
) -> tuple[tf.Tensor, tf.Tensor]:
    scaled, inverse = _coefficients(_kept(mask, weights), combiner)
    dvalues = scaled[..., None] * dy[:, None]  # [B, T, D]
    along = tf.reduce_sum(_kept(mask[..., None], values) * dy[:, None], axis=2)  # [B, T]
    # out = sum w e / s: the scale's own share is <out, dy> times ds/dw / s.
    share = tf.reduce_sum(scaled * along, axis=1, keepdims=True)
    if combiner == "mean":
        along = along - share
    elif combiner == "sqrtn":
        along = along - share * scaled
    return dvalues, _kept(mask, along * inverse)


@functools.cache
def _pool(combiner: str) -> Callable[..., tf.Tensor]:
    """Pooling without weights: the values are not needed on the way back."""

    @jit_forward
    @accumulate
    def forward(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        return _forward(values, mask, tf.ones(tf.shape(mask), values.dtype), combiner)

    @jit
    @accumulate
    def backward(mask: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
        scaled, _ = _coefficients(tf.cast(mask, dy.dtype), combiner)
        return scaled[..., None] * dy[:, None]

    @tf.custom_gradient
    def op(values: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        return forward(values, mask), lambda dy: (backward(mask, dy), None)

    return op


@functools.cache
def _weighted_pool(combiner: str) -> Callable[..., tf.Tensor]:
    forward = jit_forward(accumulate(functools.partial(_forward, combiner=combiner)))
    backward = jit(accumulate(functools.partial(_backward, combiner=combiner)))

    @tf.custom_gradient
    def op(
        values: tf.Tensor, mask: tf.Tensor, weights: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[..., Any]]:
        def grad(dy: tf.Tensor) -> tuple[Any, ...]:
            dvalues, dweights = backward(values, mask, weights, dy)
            return dvalues, None, dweights

        return forward(values, mask, weights), grad

    return op
