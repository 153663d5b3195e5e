"""Exact metrics of the k best of each list."""

from __future__ import annotations

from typing import Any

import numpy as np


def hit_rate_at_k(labels: Any, predictions: Any, k: int = 10) -> float:
    """Share of the lists with a relevant item among their k best.

    Args:
      labels: relevance of each candidate, [Q, N], 0 or more; above 0 is relevant.
      predictions: scores, [Q, N]; only their order within a list counts.
      k: 1 to N.

    Defaults: k=10.

    Returns: a float in 0..1 over the lists with a relevant item. Among equal scores the relevant
      items come last, so that a constant score earns nothing by luck.

    Raises: ValueError for wrong shapes or values, a wrong k, or no list with a relevant item.

    Example:
      >>> hit_rate_at_k([[0, 1, 0], [1, 0, 0]], [[0.1, 0.9, 0.2], [0.1, 0.9, 0.2]], k=1)
      0.5
    """
    relevant = _ranked("hit_rate_at_k", labels, predictions, k)
    return float(relevant[:, :k].any(axis=1).mean())


def recall_at_k(labels: Any, predictions: Any, k: int = 10) -> float:
    """Share of a list's relevant items that are among its k best, averaged over the lists.

    Args:
      labels, predictions, k: as in `hit_rate_at_k`, ties and errors too.

    Defaults: k=10.

    Returns: a float in 0..1 over the lists [Q] with a relevant item.

    Example:
      >>> recall_at_k([[0, 1, 1, 1]], [[0.9, 0.8, 0.7, 0.1]], k=2)
      0.3333333333333333
    """
    relevant = _ranked("recall_at_k", labels, predictions, k)
    return float(np.mean(relevant[:, :k].sum(axis=1) / relevant.sum(axis=1)))


def mrr_at_k(labels: Any, predictions: Any, k: int = 10) -> float:
    """Mean over the lists of 1 / rank of the first relevant item, 0 where that is beyond k.

    Args:
      labels, predictions, k: as in `hit_rate_at_k`, ties and errors too.

    Defaults: k=10.

    Returns: a float in 0..1 over the lists [Q] with a relevant item.

    Example:
      >>> mrr_at_k([[0, 1, 0], [1, 0, 0]], [[0.1, 0.9, 0.2], [0.1, 0.9, 0.2]], k=3)
      0.6666666666666666
    """
    relevant = _ranked("mrr_at_k", labels, predictions, k)
    rank = relevant.argmax(axis=1) + 1
    return float(np.mean(np.where(rank <= k, 1 / rank, 0.0)))


def ndcg_at_k(labels: Any, predictions: Any, k: int = 10) -> float:
    """Normalized discounted cumulative gain of the k best, averaged over the lists.

        DCG = sum over ranks r <= k of label / log2(r + 1),  divided by that of the best order

    Args:
      labels: gain of each candidate, [Q, N], 0 or more.
      predictions, k: as in `hit_rate_at_k`, errors too.

    Defaults: k=10.

    Returns: a float in 0..1 over the lists with a gain. Equal scores share the discounts of their
      ranks, as in scikit-learn's `ndcg_score`, but lists without a gain do not count.

    Example:
      >>> round(ndcg_at_k([[0, 1, 2]], [[0.9, 0.8, 0.7]], k=3), 4)
      0.6199
    """
    gains, scores = _lists("ndcg_at_k", labels, predictions, k)
    count = gains.shape[1]
    discounts = np.where(np.arange(count) < k, 1 / np.log2(np.arange(count) + 2), 0.0)
    order = np.argsort(-scores, axis=1)
    gains, scores = (np.take_along_axis(a, order, axis=1) for a in (gains, scores))
    fresh = np.ones(scores.shape, bool)
    fresh[:, 1:] = scores[:, 1:] != scores[:, :-1]
    tie = np.cumsum(fresh) - 1  # number of the run of equal scores, over all lists
    sizes = np.bincount(tie)
    gain = np.bincount(tie, gains.ravel()) / sizes
    dcg = (gain[tie].reshape(scores.shape) * discounts).sum(axis=1)
    best = (-np.sort(-gains, axis=1) * discounts).sum(axis=1)
    return float(np.mean(dcg / best))


def _ranked(metric: str, labels: Any, predictions: Any, k: int) -> np.ndarray:
    """Whether the item at each rank is relevant, [Q, N]."""
    gains, scores = _lists(metric, labels, predictions, k)
    return np.take_along_axis(gains > 0, np.lexsort((gains > 0, -scores), axis=1), axis=1)


def _lists(metric: str, labels: Any, predictions: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Gains and scores of the lists with a gain, two [Q, N] float64."""
    gains, scores = (np.asarray(a, np.float64) for a in (labels, predictions))
    if gains.ndim != 2 or gains.shape != scores.shape:
        raise ValueError(
            f"{metric}: labels and predictions must both be [Q, N], got {list(gains.shape)} and "
            f"{list(scores.shape)}"
        )
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= gains.shape[1]:
        raise ValueError(f"{metric}: k must be 1 to {gains.shape[1]}, got {k!r}")
    if not np.isfinite(scores).all():
        raise ValueError(
            f"{metric}: predictions must be finite, got {scores[~np.isfinite(scores)][0]}"
        )
    fits = (gains >= 0) & np.isfinite(gains)
    if not fits.all():
        raise ValueError(f"{metric}: labels must be finite and 0 or more, got {gains[~fits][0]}")
    usable = (gains > 0).any(axis=1)
    if not usable.any():
        raise ValueError(f"{metric}: needs a list with a relevant item, got none in {len(gains)}")
    return gains[usable], scores[usable]
