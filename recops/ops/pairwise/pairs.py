"""The pair order that every room shares, and sums over pairs that need no scatter.

Pair p(i, j), i < j, is the p-th of `itertools.combinations(range(F), 2)`. All index maps are
static, so on the way back a gather through them replaces the scatter-add of a gather's gradient.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf


def pair_count(fields: int) -> int:
    """Number of pairs P = F(F-1)/2."""
    return fields * (fields - 1) // 2


@functools.cache
def pair_indices(fields: int) -> tuple[np.ndarray, np.ndarray]:
    """Left and right field of each pair, two int32 arrays [P]."""
    pairs = np.array(list(itertools.combinations(range(fields), 2)), np.int32).reshape(-1, 2)
    return pairs[:, 0].copy(), pairs[:, 1].copy()


@functools.cache
def pair_map(fields: int) -> np.ndarray:
    """Pair number of (i, j) in either order, flattened [F * F]; 0 on the diagonal."""
    left, right = pair_indices(fields)
    table = np.zeros((fields, fields), np.int32)
    table[left, right] = table[right, left] = np.arange(len(left), dtype=np.int32)
    return table.reshape(-1)


@functools.cache
def upper(fields: int) -> np.ndarray:
    """True where i < j, [F, F]."""
    return np.triu(np.ones((fields, fields), bool), 1)


def left_right(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Both sides of each pair, two [B, P, D]."""
    left, right = pair_indices(x.shape[1])
    return tf.gather(x, left, axis=1), tf.gather(x, right, axis=1)


def upper_take(gram: tf.Tensor) -> tf.Tensor:
    """[B, F, F] -> [B, P]: the entries above the diagonal, in pair order."""
    fields = gram.shape[1]
    left, right = pair_indices(fields)
    return tf.gather(tf.reshape(gram, [-1, fields * fields]), left * fields + right, axis=1)


def symmetric(values: tf.Tensor, fields: int) -> tf.Tensor:
    """[B, P] -> [B, F, F]: both triangles filled from the pairs, zeros on the diagonal."""
    full = tf.reshape(tf.gather(values, pair_map(fields), axis=1), [-1, fields, fields])
    return tf.where(np.eye(fields, dtype=bool), tf.zeros([], values.dtype), full)


def sum_over_pairs(values: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """[B, P, D], [B, F, D] -> [B, F, D]: out_i = sum over j != i of values[p(i, j)] * other_j."""
    fields, dim = other.shape[1], other.shape[2]
    full = tf.gather(values, pair_map(fields), axis=1)
    full = tf.reshape(full, [-1, fields, fields, dim])  # [B, F, F, D]
    off_diagonal = ~np.eye(fields, dtype=bool)[:, :, None]
    products = tf.where(off_diagonal, full * other[:, None], tf.zeros([], values.dtype))
    return tf.reduce_sum(products, axis=2)


def by_left(fields: int) -> list[tuple[int, slice]]:
    """Each field that is ever on the left and the range of its pairs, which are contiguous."""
    ends = np.cumsum(np.arange(fields - 1, 0, -1))
    return [(i, slice(int(end) - fields + 1 + i, int(end))) for i, end in enumerate(ends)]


def left_sums(values: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """[B, P, D], [B, F, D] -> [B, F, D]: out_i = sum over j > i of values[p(i, j)] * x_j."""
    fields = x.shape[1]
    sums = [tf.reduce_sum(values[:, at] * x[:, i + 1 :], axis=1) for i, at in by_left(fields)]
    return tf.stack([*sums, tf.zeros_like(sums[0])], axis=1)


# Fields whose sums share their slices; more of them compile faster, down to about here.
_BLOCK = 5


def right_sums(values: tf.Tensor, lefts: Sequence[tf.Tensor]) -> tf.Tensor:
    """[B, P, D] -> [B, F, D]: out_j = sum over i < j of values[p(i, j)] * lefts[i] at j.

    `lefts` holds for each field but the last [B, 1, D], or [B, F-1-i, D] with a row for each j > i.
    The pairs of a right field lie apart, so its sum is written out: XLA compiles it to one pass,
    where a gather and a reduction would store all products.
    """
    fields = len(lefts) + 1
    ranges = by_left(fields)

    def term(i: int, start: int, stop: int) -> tf.Tensor:
        offset, left = ranges[i][1].start - i - 1, lefts[i]
        if left.shape[1] != 1:
            left = left[:, start - i - 1 : stop - i - 1]
        return values[:, offset + start : offset + stop] * left

    sums = [tf.zeros_like(values[:, :1])]
    for first in range(1, fields, _BLOCK):
        stop = min(first + _BLOCK, fields)
        shared = tf.add_n([term(i, first, stop) for i in range(first)])
        for j in range(first, stop):
            own = [term(i, j, j + 1) for i in range(first, j)]
            sums.append(tf.add_n([shared[:, j - first : j - first + 1], *own]))
    return tf.concat(sums, axis=1)
