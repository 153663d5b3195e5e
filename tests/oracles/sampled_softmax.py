"""Softmax over few candidates, from Jean 2015, eq. 9 (sampled), and Yi 2019, eq. 5 (in batch)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def _cross_entropy(logits: list[float], first: float) -> float:
    top = max(logits)
    return float(top + np.log(sum(np.exp(logit - top) for logit in logits)) - first)


def sampled_softmax(
    inputs: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    biases: np.ndarray | None = None,
    *,
    num_sampled: int,
    sampled: Sequence[np.ndarray],
    remove_accidental_hits: bool = True,
    **_: Any,
) -> np.ndarray:
    ids, log_labels, log_ids = sampled
    assert len(ids) == num_sampled
    biases = np.zeros(len(weights)) if biases is None else biases
    loss = []
    for x, label, log_label in zip(inputs, labels, log_labels):
        own = x @ weights[label] + biases[label] - log_label
        logits = [own]
        for k, log_k in zip(ids, log_ids):
            if not (remove_accidental_hits and k == label):
                logits.append(x @ weights[k] + biases[k] - log_k)
        loss.append(_cross_entropy(logits, own))
    return np.array(loss)


def in_batch_softmax(
    queries: np.ndarray,
    items: np.ndarray,
    item_ids: np.ndarray | None = None,
    log_q: np.ndarray | None = None,
    temperature: float = 1.0,
) -> np.ndarray:
    loss = []
    for b, query in enumerate(queries):
        scores = {}
        for j, item in enumerate(items):
            if item_ids is None or j == b or item_ids[j] != item_ids[b]:
                scores[j] = query @ item / temperature - (0 if log_q is None else log_q[j])
        loss.append(_cross_entropy(list(scores.values()), scores[b]))
    return np.array(loss)


ORACLES = {"sampled_softmax": sampled_softmax, "in_batch_softmax": in_batch_softmax}
