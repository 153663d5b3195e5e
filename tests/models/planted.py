"""A small data set whose label is a product of two fields, and small versions of every model.

Models of histories do not see the user: they must read from what was clicked what the user likes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recops.features import DenseFeature, Feature, SequenceFeature, SparseFeature
from recops.models import CATALOGUE

USER, ITEM = SparseFeature("user", 12, 4), SparseFeature("item", 12, 4)
NOISE = SparseFeature("noise", 5, 4)
WORDS = SequenceFeature("words", 6, max_length=3, embedding_dim=4)
PLACE = DenseFeature("place", dimension=2)
FEATURES = [USER, ITEM, NOISE, WORDS, PLACE]

HISTORY = SequenceFeature("history", 12, max_length=4, embedding_dim=4, target="item")
NEGATIVES = SequenceFeature("negatives", 12, max_length=4, embedding_dim=4, negative_of="history")
SESSIONS = SequenceFeature("sessions", 12, 3, 4, target="item", sessions=2)
SEQUENCES = [ITEM, NOISE, WORDS, PLACE, HISTORY, NEGATIVES, SESSIONS]

# Options that keep each model small; its other options have their defaults.
SMALL: dict[str, dict[str, Any]] = {
    "FM": {},
    "FFM": {"embedding_dim": 3},
    "LSPLM": {"regions": 4},
    "NeuralCF": {"hidden_units": [16, 8]},
    "WideDeep": {"hidden_units": [16, 8], "crosses": [("user", "item")]},
    "DCN": {"hidden_units": [16, 8], "num_cross_layers": 2},
    "DeepFM": {"hidden_units": [16, 8]},
    "XDeepFM": {"hidden_units": [16, 8], "layer_size": [6, 4]},
    "NFM": {"hidden_units": [16, 8], "dropout": 0.1},
    "AFM": {"dropout": 0.1},
    "PNN": {"hidden_units": [16, 8], "product": "both"},
    "FiBiNET": {"hidden_units": [16, 8], "dropout": 0.1},
    "AutoInt": {"num_layers": 2, "head_dim": 4},
    "YoutubeDNNRanking": {"hidden_units": [16, 8]},
    "DIEN": {
        "hidden_units": [16, 8],
        "attention_units": [8],
        "auxiliary_units": [8],
        "auxiliary_weight": 0.3,
    },
    "DIN": {"attention_units": [8], "hidden_units": [16, 8]},
    "DSIN": {"attention_units": [8], "lstm_layers": 1, "hidden_units": [16, 8]},
    "BST": {"num_heads": 2, "intermediate_dim": 8, "hidden_units": [16, 8], "dropout": 0.0},
}


def features_of(name: str) -> list[Feature]:
    """What a model of the catalogue is built from."""
    return SEQUENCES if CATALOGUE[name].task == "sequence" else FEATURES


def data(rows: int, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A batch and labels [rows, 1]: sign of a(user) b(item), a little of the rest, no noise.

    The user has clicked items of one side, and negatives are of the other.
    """
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
    odd = batch["user"][:, None] % 2
    kept = np.arange(4) < rng.integers(1, 5, (rows, 1))
    batch["history"] = np.where(kept, 2 * rng.integers(1, 7, (rows, 4)) - odd, 0).astype(np.int32)
    other = 2 * rng.integers(1, 7, (rows, 4)) - 1 + odd
    batch["negatives"] = np.where(kept, other, 0).astype(np.int32)
    # The first session has a step, the second may have none.
    kept = np.arange(3) < rng.integers([[1], [0]], 4, (rows, 2, 1))
    clicked = 2 * rng.integers(1, 7, (rows, 2, 3)) - odd[:, None]
    batch["sessions"] = np.where(kept, clicked, 0).astype(np.int32)
    return batch, (score > 0).astype(np.float32)[:, None]


def read_by(model: Any, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a model takes of a batch."""
    return {symbol.name: batch[symbol.name] for symbol in model.inputs}


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Share of the pairs of a positive and a negative that are in order."""
    labels, scores = labels.ravel() > 0, scores.ravel()
    above = scores[labels][:, None] - scores[~labels][None]
    return float(np.mean((above > 0) + 0.5 * (above == 0)))
