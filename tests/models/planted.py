"""A small data set whose label is a product of two fields, and small versions of every model."""

from __future__ import annotations

from typing import Any

import numpy as np

from recops.features import DenseFeature, SequenceFeature, SparseFeature

USER, ITEM = SparseFeature("user", 12, 4), SparseFeature("item", 12, 4)
NOISE = SparseFeature("noise", 5, 4)
WORDS = SequenceFeature("words", 6, max_length=3, embedding_dim=4)
PLACE = DenseFeature("place", dimension=2)
FEATURES = [USER, ITEM, NOISE, WORDS, PLACE]

# Options that keep each model small; its other options have their defaults.
SMALL: dict[str, dict[str, Any]] = {
    "FM": {},
    "FFM": {"embedding_dim": 3},
    "WideDeep": {"hidden_units": [16, 8], "crosses": [("user", "item")]},
    "DCN": {"hidden_units": [16, 8], "num_cross_layers": 2},
    "DeepFM": {"hidden_units": [16, 8]},
    "NFM": {"hidden_units": [16, 8], "dropout": 0.1},
    "AFM": {"dropout": 0.1},
    "PNN": {"hidden_units": [16, 8], "product": "both"},
    "FiBiNET": {"hidden_units": [16, 8], "dropout": 0.1},
    "AutoInt": {"num_layers": 2, "head_dim": 4},
}


def data(rows: int, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A batch and labels [rows, 1]: sign of a(user) b(item), a little of the rest, no noise."""
    rng = np.random.default_rng(seed)
    batch = {
        "user": rng.integers(1, 13, rows).astype(np.int32),
        "item": rng.integers(1, 13, rows).astype(np.int32),
        "noise": rng.integers(0, 6, rows).astype(np.int32),
        "words": rng.integers(0, 7, (rows, 3)).astype(np.int32),
        "place": rng.normal(size=(rows, 2)).astype(np.float32),
    }
    side = np.where(np.arange(13) % 2, 1.0, -1.0)
    score = 2 * side[batch["user"]] * side[batch["item"]] + 0.7 * batch["place"][:, 0]
    score += 0.5 * (batch["words"] == 3).any(axis=1)
    return batch, (score > 0).astype(np.float32)[:, None]


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Share of the pairs of a positive and a negative that are in order."""
    labels, scores = labels.ravel() > 0, scores.ravel()
    above = scores[labels][:, None] - scores[~labels][None]
    return float(np.mean((above > 0) + 0.5 * (above == 0)))
