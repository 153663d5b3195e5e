"""Draws of candidate ids that run under jit, with replacement, and what they expect to draw.

Ids run 1..V: id 0 is padding and is never drawn. With S draws, id k is expected S p(k) times.
TensorFlow's own candidate samplers have no XLA kernel, and draw without replacement by default.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

SAMPLERS = ("uniform", "log_uniform", "frequency")

Sampled = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


def draw(
    labels: tf.Tensor,
    vocabulary_size: int | tf.Tensor,
    num_sampled: int,
    sampler: str,
    counts: np.ndarray | None,
    distortion: float,
    seed: Any,
) -> Sampled:
    """Ids [S] in the dtype of the labels, and log expected counts of labels [B] and of ids [S]."""
    size = tf.cast(vocabulary_size, tf.float64)
    if sampler == "frequency":
        assert counts is not None  # checked by the api
        ids, log_p = _frequency(counts, distortion, num_sampled, seed)
    elif sampler == "uniform":
        ids = 1 + tf.cast(_uniform(num_sampled, seed) * size, tf.int64)
        log_p = functools.partial(_log_uniform_p, size)
    else:
        # k = floor((V + 1)^u) has p(k) = log((k + 1) / k) / log(V + 1).
        ids = tf.cast(tf.exp(_uniform(num_sampled, seed) * tf.math.log(size + 1)), tf.int64)
        log_p = functools.partial(_log_log_uniform_p, size)
    # Rounding may reach V + 1 where u is next to 1.
    ids = tf.clip_by_value(ids, 1, tf.cast(size, tf.int64))
    shift = np.log(num_sampled)
    return tf.cast(ids, labels.dtype), log_p(labels) + shift, log_p(ids) + shift


def _uniform(count: int, seed: Any, column: int = 0) -> tf.Tensor:
    """Numbers in [0, 1), float64, so that the rarest of a million ids can be told apart."""
    if seed is None:
        return tf.random.uniform([count], dtype=tf.float64)
    pair = tf.cast(tf.convert_to_tensor(seed), tf.int64)
    pair = tf.stack([pair, tf.zeros_like(pair)]) if pair.shape.rank == 0 else pair
    # Named, for of itself XLA takes another generator and draws other numbers from the same seed.
    seeds = pair + [0, column]
    return tf.random.stateless_uniform([count], seeds, dtype=tf.float64, alg="philox")


def _log_uniform_p(size: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    return tf.fill(tf.shape(ids), -tf.math.log(size))


def _log_log_uniform_p(size: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    k = tf.cast(tf.maximum(ids, 1), tf.float64)
    return tf.math.log(tf.math.log1p(1 / k) / tf.math.log1p(size))


def _frequency(
    counts: np.ndarray, distortion: float, num_sampled: int, seed: Any
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Draws in constant time each: a column, then the column's own id or its alias."""
    table = _alias_table(counts, distortion)
    threshold, alias, log_p = (tf.constant(part) for part in table)
    size = len(table[0])
    column = tf.cast(_uniform(num_sampled, seed) * size, tf.int64)
    column = tf.minimum(column, size - 1)
    own = _uniform(num_sampled, seed, 1) < tf.gather(threshold, column)
    ids = 1 + tf.where(own, column, tf.gather(alias, column))
    return ids, lambda wanted: tf.gather(log_p, tf.cast(wanted, tf.int64))


_TABLES: dict[tuple[bytes, float], tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
_MOST_TABLES = 8


def _alias_table(counts: np.ndarray, distortion: float) -> tuple[np.ndarray, ...]:
    """Thresholds [V], aliases [V] (both of ids less 1), and log p [V + 1], made once."""
    counts = counts.astype(np.float64)
    key = (hashlib.sha256(counts.tobytes()).digest(), distortion)
    if key not in _TABLES:
        while len(_TABLES) >= _MOST_TABLES:
            del _TABLES[next(iter(_TABLES))]
        _TABLES[key] = _build(counts, distortion)
    return _TABLES[key]


def _build(counts: np.ndarray, distortion: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Walker's tables: each of V equal columns holds one id, and one other fills it up."""
    seen = counts[1:]
    # 0^0 is 1, but what was never seen is never drawn.
    weights = np.where(seen > 0, seen**distortion, 0.0)
    p = weights / weights.sum()
    threshold, alias = p * len(p), np.arange(len(p))
    low = [int(k) for k in np.flatnonzero(threshold < 1)]
    high = [int(k) for k in np.flatnonzero(threshold >= 1)]
    left = threshold.tolist()
    while low and high:
        short, tall = low.pop(), high[-1]
        alias[short] = tall
        left[tall] -= 1 - left[short]
        if left[tall] < 1:
            low.append(high.pop())
    threshold = np.array(left)
    # What rounding leaves over is full to within rounding.
    threshold[low + high] = 1.0
    with np.errstate(divide="ignore"):
        log_p = np.log(np.concatenate([[0.0], p]))
    # A label that was never counted (or padding) is as rare as the rarest that was.
    log_p[~np.isfinite(log_p)] = log_p[np.isfinite(log_p)].min()
    return threshold, alias.astype(np.int64), log_p
