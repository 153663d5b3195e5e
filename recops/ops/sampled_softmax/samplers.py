"""Draws of candidate ids that run under jit, with replacement, and what they expect to draw.

Ids run 1..V: id 0 is padding and is never drawn. With S draws, id k is expected S p(k) times.
TensorFlow's own candidate samplers have no XLA kernel, and draw without replacement by default.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

SAMPLERS = ("uniform", "log_uniform", "frequency")

Sampled = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


class AliasTable(NamedTuple):
    """Walker's tables: arrays, or variables, of which a draw reads only the rows it needs.

    Each of V equal columns holds the id of its number and one other, which fills it up.
    """

    threshold: Any  # [V] share of the column's own id, less 1
    alias: Any  # [V] the other id, less 1
    log_p: Any  # [V + 1] logarithm of the probability of each id


def draw(
    labels: tf.Tensor,
    vocabulary_size: int | tf.Tensor,
    num_sampled: int,
    sampler: str,
    table: AliasTable | None,
    seed: Any,
) -> Sampled:
    """Ids [S] in the dtype of the labels, and log expected counts of labels [B] and of ids [S]."""
    size = tf.cast(vocabulary_size, tf.float64)
    if sampler == "frequency":
        assert table is not None  # checked by the api
        ids, log_p = _frequency(table, num_sampled, seed)
    elif sampler == "uniform":
        ids = 1 + tf.cast(_uniform([num_sampled], seed) * size, tf.int64)
        log_p = functools.partial(_log_uniform_p, size)
    else:
        # k = floor((V + 1)^u) has p(k) = log((k + 1) / k) / log(V + 1).
        ids = tf.cast(tf.exp(_uniform([num_sampled], seed) * tf.math.log(size + 1)), tf.int64)
        log_p = functools.partial(_log_log_uniform_p, size)
    # Rounding may reach V + 1 where u is next to 1.
    ids = tf.clip_by_value(ids, 1, tf.cast(size, tf.int64))
    shift = math.log(num_sampled)
    return tf.cast(ids, labels.dtype), log_p(labels) + shift, log_p(ids) + shift


def _uniform(shape: list[int], seed: Any) -> tf.Tensor:
    """Numbers in [0, 1), float64, so that the rarest of a million ids can be told apart.

    All that a call needs come from here at once: a second stream, of a seed made from this one by
    a sum, would be the first stream of another step.
    """
    if seed is None:
        return tf.random.uniform(shape, dtype=tf.float64)
    pair = tf.cast(tf.convert_to_tensor(seed), tf.int64)
    pair = tf.stack([pair, tf.zeros_like(pair)]) if pair.shape.rank == 0 else pair
    # Named, for of itself XLA takes another generator and draws other numbers from the same seed.
    return tf.random.stateless_uniform(shape, pair, dtype=tf.float64, alg="philox")


def _log_uniform_p(size: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    return tf.fill(tf.shape(ids), -tf.math.log(size))


def _log_log_uniform_p(size: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    k = tf.cast(tf.maximum(ids, 1), tf.float64)
    return tf.math.log(tf.math.log1p(1 / k) / tf.math.log1p(size))


def _frequency(
    table: AliasTable, num_sampled: int, seed: Any
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Draws in constant time each: a column, then the column's own id or its alias."""
    size = table.threshold.shape[0]
    places, shares = tf.unstack(_uniform([2, num_sampled], seed))
    column = tf.minimum(tf.cast(places * size, tf.int64), size - 1)
    own = shares < tf.cast(tf.gather(table.threshold, column), tf.float64)
    ids = 1 + tf.where(own, column, tf.gather(table.alias, column))
    return ids, lambda wanted: tf.gather(table.log_p, tf.cast(wanted, tf.int64))


_TABLES: dict[tuple[bytes, float], AliasTable] = {}
_MOST_TABLES = 8


def alias_table(op: str, counts: Any, distortion: float, rows: int | None) -> AliasTable:
    """The table of counts [rows] and a distortion, float64 and int64, made once.

    Raises: ValueError for what cannot be counts, or a distortion that is not finite.
    """
    counts = _checked(op, counts, rows).astype(np.float64)
    if not math.isfinite(distortion):
        raise ValueError(f"{op}: distortion must be finite, got {distortion!r}")
    key = (hashlib.sha256(counts.tobytes()).digest(), distortion)
    if key not in _TABLES:
        while len(_TABLES) >= _MOST_TABLES:
            del _TABLES[next(iter(_TABLES))]
        _TABLES[key] = _build(counts, distortion)
    return _TABLES[key]


def _checked(op: str, counts: Any, rows: int | None) -> np.ndarray:
    if counts is None or tf.is_symbolic_tensor(counts):
        raise ValueError(
            f"{op}: sampler 'frequency' needs counts [V + 1] as a NumPy array or list, got "
            f"{'a symbolic tensor' if counts is not None else 'None'}"
        )
    found = np.asarray(counts)
    fits = found.ndim == 1 and rows in (None, len(found)) and found.dtype.kind in "iuf"
    if not fits or len(found) < 2 or not _countable(found[1:]):
        raise ValueError(
            f"{op}: counts must be [{rows or 'V + 1'}] finite numbers of 0 or more, not all 0 "
            f"behind the first, got dtype {found.dtype} with shape {list(found.shape)}"
        )
    return found


def _countable(counts: np.ndarray) -> bool:
    return bool(np.isfinite(counts).all() and (counts >= 0).all() and counts.any())


def _build(counts: np.ndarray, distortion: float) -> AliasTable:
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
    return AliasTable(threshold, alias.astype(np.int64), log_p)
