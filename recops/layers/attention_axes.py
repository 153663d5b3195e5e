"""Attention over any axes, brought into the form [B, T, N, E] that the op has, and back."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf


class Dims(NamedTuple):
    """Sizes of the axes: those that are not attended over, and the attended of query and key."""

    batch: tf.Tensor
    steps: tf.Tensor
    sources: tf.Tensor


class AttentionAxes:
    """Which axes of inputs [B, ..., n] of a rank are attended over; None is all but the outer two.

    Axes that are not attended over join the batch, and several that are become one.

    Raises: ValueError for axes that the inputs do not have between the first and the last.
    """

    def __init__(self, rank: int, attended: Sequence[int] | None = None) -> None:
        inner = range(1, rank - 1)
        chosen = tuple(inner) if attended is None else tuple(a % rank for a in attended)
        if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(inner):
            raise ValueError(
                f"MultiHeadAttention: attention_axes must be different axes of {list(inner)} for "
                f"inputs of rank {rank}, got {attended}"
            )
        self.attended = chosen
        self.batch = tuple(axis for axis in range(rank - 1) if axis not in chosen)
        self.trivial = rank == 3

    def dims(self, query: tf.Tensor, value: tf.Tensor) -> Dims:
        """Sizes for inputs before their projection."""
        q, v = tf.shape(query), tf.shape(value)
        return Dims(
            tf.gather(q, self.batch), tf.gather(q, self.attended), tf.gather(v, self.attended)
        )

    def fold(self, heads: tf.Tensor) -> tf.Tensor:
        """[B, ..., N, E] -> [B', T', N, E]"""
        if self.trivial:
            return heads
        rank = heads.shape.rank
        moved = tf.transpose(heads, (*self.batch, *self.attended, rank - 2, rank - 1))
        steps = tf.reduce_prod(tf.gather(tf.shape(heads), self.attended))
        return tf.reshape(moved, [-1, steps, *heads.shape[-2:]])

    def unfold(self, out: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
        """[B', T', N, E] -> [B, ..., N, E] where `like` has the axes."""
        if self.trivial:
            return out
        order = (*self.batch, *self.attended)
        sizes = tf.concat([tf.gather(tf.shape(like), order), out.shape[-2:]], 0)
        split = tf.reshape(out, sizes)
        back = [order.index(axis) for axis in range(len(order))]
        restored = tf.transpose(split, (*back, len(order), len(order) + 1))
        return tf.ensure_shape(restored, (*like.shape[:-2], *out.shape[-2:]))

    def unfold_scores(self, scores: tf.Tensor, dims: Dims) -> tf.Tensor:
        """[B', N, T', S'] -> [B, ..., N, T..., S...]"""
        if self.trivial:
            return scores
        return tf.reshape(scores, tf.concat([dims.batch, scores.shape[1:2], *dims[1:]], 0))

    def scores_shape(self, query: Any, value: Any, heads: int) -> tuple[int | None, ...]:
        """Static shape of the scores of inputs with these shapes."""
        steps, sources = ([shape[axis] for axis in self.attended] for shape in (query, value))
        return (*(query[axis] for axis in self.batch), heads, *steps, *sources)

    def mask(
        self,
        dims: Dims,
        rows: tf.Tensor | None,
        columns: tf.Tensor | None,
        full: Any,
        window: int | None,
    ) -> tf.Tensor | None:
        """What all masks keep: None, [B', S'] where only keys are masked, or [B', 1 or N, T', S'].

        `rows` and `columns` have the shape of query and key without the last axis. `full` is
        [B, ..., N, T..., S...]; axes before T may be missing or 1. `window`: keep |t - s| < window.
        """
        columns, rows = (self._flat(mask) for mask in (columns, rows))
        if rows is None and full is None and window is None:
            return columns
        parts = [] if columns is None else [columns[:, None, None]]
        if rows is not None:
            parts.append(rows[:, None, :, None])
        steps, sources = tf.reduce_prod(dims.steps), tf.reduce_prod(dims.sources)
        if window is not None:
            distance = tf.range(steps)[:, None] - tf.range(sources)
            parts.append((tf.abs(distance) < window)[None, None])
        heads = 1
        if full is not None:
            parts.append(self._full(tf.cast(full, tf.bool), dims))
            heads = parts[-1].shape[1]
        merged = functools.reduce(tf.logical_and, parts)
        return tf.broadcast_to(merged, [tf.reduce_prod(dims.batch), heads, steps, sources])

    def of_keys(self, full: Any, dims: Dims) -> tf.Tensor | None:
        """A `full` mask that is alike for all queries and heads as one of keys, [B, S].

        None where it is not, by its static shape, or where axes moved.
        """
        if full is None or not self.trivial:
            return None
        mask = tf.cast(full, tf.bool)
        rank = mask.shape.rank
        if rank not in (2, 3, 4) or set(mask.shape[1 if rank == 4 else -2 : -1]) != {1}:
            return None
        while mask.shape.rank > 2:
            mask = tf.squeeze(mask, -2)
        return tf.broadcast_to(mask, tf.concat([dims.batch, dims.sources], 0))

    def some(self, mask: tf.Tensor) -> tuple[tf.Tensor | None, tf.Tensor | None]:
        """Queries [B, T] that keep a key and keys [B, S] that a query keeps; None if axes moved."""
        if not self.trivial:
            return None, None
        return tf.reduce_any(mask, axis=[1, 3]), tf.reduce_any(mask, axis=[1, 2])

    def _flat(self, mask: tf.Tensor | None) -> tf.Tensor | None:
        """[B, ...] -> [B', T']"""
        if mask is None or self.trivial:
            return mask
        steps = tf.reduce_prod(tf.gather(tf.shape(mask), self.attended))
        return tf.reshape(tf.transpose(mask, (*self.batch, *self.attended)), [-1, steps])

    def _full(self, mask: tf.Tensor, dims: Dims) -> tf.Tensor:
        """A mask of the scores -> [B', 1 or N, T', S']"""
        count = len(self.attended)
        rank = len(self.batch) + 1 + 2 * count
        if mask.shape.rank is None or not 2 * count <= mask.shape.rank <= rank:
            raise ValueError(
                f"MultiHeadAttention: attention_mask must have rank {2 * count} to {rank}, got "
                f"shape {mask.shape}"
            )
        while mask.shape.rank < rank:
            mask = tf.expand_dims(mask, -2 * count - 1)
        heads = mask.shape[len(self.batch)]
        whole = tf.broadcast_to(mask, tf.concat([dims.batch, [heads], *dims[1:]], 0))
        return tf.reshape(
            whole, [-1, heads, tf.reduce_prod(dims.steps), tf.reduce_prod(dims.sources)]
        )
