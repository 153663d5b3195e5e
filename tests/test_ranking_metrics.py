"""Metrics of the k best against scikit-learn and loops, with ties, and on bad input."""

from __future__ import annotations

import time

import numpy as np
import pytest
import sklearn.metrics

from recops.metrics import hit_rate_at_k, mrr_at_k, ndcg_at_k, recall_at_k

METRICS = (hit_rate_at_k, recall_at_k, mrr_at_k, ndcg_at_k)


def lists(ties, rows=40, count=12):
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 4, (rows, count)) * (rng.random((rows, count)) < 0.3)
    labels[:, 0] += ~labels.any(axis=1)
    scores = rng.random((rows, count))
    return labels, scores.round(1) if ties else scores


def by_loop(labels, scores, k):
    """Hit, recall and reciprocal rank, the relevant last among equals."""
    hits, recalls, ranks = [], [], []
    for gains, row in zip(labels, scores):
        order = sorted(range(len(row)), key=lambda i: (-row[i], gains[i] > 0))
        found = [place for place, i in enumerate(order[:k]) if gains[i] > 0]
        hits.append(bool(found))
        recalls.append(len(found) / (gains > 0).sum())
        ranks.append(1 / (found[0] + 1) if found else 0)
    return np.mean(hits), np.mean(recalls), np.mean(ranks)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("k", [1, 5, 12])
def test_equal_to_loops_and_scikit_learn(k, ties):
    labels, scores = lists(ties)
    got = [metric(labels, scores, k) for metric in METRICS]
    np.testing.assert_allclose(got[:3], by_loop(labels, scores, k))
    assert got[3] == pytest.approx(sklearn.metrics.ndcg_score(labels, scores, k=k))


def test_a_constant_score_earns_nothing_by_luck():
    labels = np.eye(4)[:, ::-1]
    assert hit_rate_at_k(labels, np.zeros((4, 4)), 3) == 0
    assert mrr_at_k(labels, np.zeros((4, 4)), 4) == 0.25


def test_lists_without_a_relevant_item_do_not_count():
    labels, scores = lists(ties=True)
    more = np.vstack([labels, np.zeros((7, 12))]), np.vstack([scores, np.ones((7, 12))])
    for metric in METRICS:
        assert metric(*more, 3) == metric(labels, scores, 3)


def test_a_million_scores_take_less_than_a_second():
    labels, scores = lists(ties=False, rows=10_000, count=100)
    for metric in METRICS:
        start = time.perf_counter()
        metric(labels, scores, 10)
        assert time.perf_counter() - start < 1


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)
@pytest.mark.parametrize(
    ("labels", "scores", "k", "said"),
    [
        ([0, 1], [0.1, 0.2], 1, r"must both be \[Q, N\], got \[2\] and \[2\]"),
        ([[0, 1]], [[0.1, np.nan]], 1, "finite, got nan"),
        ([[0, -1]], [[0.1, 0.2]], 1, "0 or more, got -1"),
        ([[0, np.inf]], [[0.1, 0.2]], 1, "labels must be finite and 0 or more, got inf"),
        ([[0, 1]], [[0.1, 0.2]], 3, "k must be 1 to 2, got 3"),
        ([[0, 0]], [[0.1, 0.2]], 1, "relevant item, got none in 1"),
    ],
)
def test_wrong_input(metric, labels, scores, k, said):
    with pytest.raises(ValueError, match=f"{metric.__name__}: .*{said}"):
        metric(labels, scores, k)
