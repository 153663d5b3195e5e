"""BST's history with the target at its end, from Chen 2019, with the weights of a layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.oracles.transformer import block


def recency(table: np.ndarray, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Counted one step at a time, from the end."""
    out = np.zeros(x.shape)
    for b in range(len(x)):
        after = 0
        for t in reversed(range(x.shape[1])):
            if mask[b, t]:
                out[b, t] = x[b, t] + table[after]
                after += 1
    return out


def behavior_transformer(
    layer: Any, query: np.ndarray, behaviors: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """For blocks with ReLU."""
    x = np.concatenate([behaviors, query[:, None]], axis=1)
    mask = np.concatenate([mask, np.ones((len(mask), 1), bool)], axis=1)
    x = recency(np.asarray(layer.recency.embeddings), x, mask)
    for one in layer.blocks:
        x = np.where(mask[..., None], block(one, x, mask=mask), 0)
    if layer.pooling == "flatten":
        return x.reshape(len(x), -1)
    if layer.pooling == "target":
        return x[:, -1]
    return np.stack([row[kept].mean(0) for row, kept in zip(x, mask)])
