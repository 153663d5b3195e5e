"""Pairwise interactions, from Qu 2016, He 2017, Rendle 2010 and Juan 2016: loops over the pairs."""

from __future__ import annotations

import itertools

import numpy as np


def _pairs(fields: int) -> list[tuple[int, int]]:
    return list(itertools.combinations(range(fields), 2))


def pairwise_inner(x: np.ndarray) -> np.ndarray:
    return np.stack([np.einsum("bd,bd->b", x[:, i], x[:, j]) for i, j in _pairs(x.shape[1])], 1)


def pairwise_hadamard(x: np.ndarray) -> np.ndarray:
    return np.stack([x[:, i] * x[:, j] for i, j in _pairs(x.shape[1])], 1)


def bi_interaction(x: np.ndarray) -> np.ndarray:
    return pairwise_hadamard(x).sum(1)


def fm_interaction(x: np.ndarray) -> np.ndarray:
    return pairwise_inner(x).sum(1, keepdims=True)


def field_aware_interaction(x: np.ndarray) -> np.ndarray:
    terms = [np.einsum("bd,bd->b", x[:, i, j], x[:, j, i]) for i, j in _pairs(x.shape[1])]
    return np.sum(terms, 0)[:, None]


ORACLES = {
    "pairwise_inner": pairwise_inner,
    "pairwise_hadamard": pairwise_hadamard,
    "bi_interaction": bi_interaction,
    "fm_interaction": fm_interaction,
    "field_aware_interaction": field_aware_interaction,
}
