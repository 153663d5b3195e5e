"""Attentional pooling, from Xiao 2017 (AFM), eq. 4 to 6: a loop over rows and pairs."""

from __future__ import annotations

import itertools
import math

import numpy as np


def attentional_pooling(
    x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, projection: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    batch, fields, dim = x.shape
    pairs = list(itertools.combinations(range(fields), 2))
    pooled, weights = np.zeros((batch, dim)), np.zeros((batch, len(pairs)))
    for b in range(batch):
        products = [x[b, i] * x[b, j] for i, j in pairs]
        scores = [projection @ np.maximum(kernel.T @ e + bias, 0.0) for e in products]
        largest = max(scores)
        total = sum(math.exp(s - largest) for s in scores)
        for p, (score, product) in enumerate(zip(scores, products)):
            weights[b, p] = math.exp(score - largest) / total
            pooled[b] += weights[b, p] * product
    return pooled, weights


ORACLES = {"attentional_pooling": attentional_pooling}
