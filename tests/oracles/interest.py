"""DIEN's layers from Zhou 2019: eq. 2 to 5 and 7 with the network of the authors' code, eq. 12."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.oracles.dynamic_gru import dynamic_gru
from tests.oracles.target_attention import target_attention

Layers = Sequence[tuple[np.ndarray, np.ndarray]]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def auxiliary(
    interests: np.ndarray,
    behaviors: np.ndarray,
    negatives: np.ndarray,
    mask: np.ndarray,
    network: Layers,
    reduction: str = "masked_mean",
) -> float:
    """Loss of every pair of kept neighbours; `network` is kernels and biases, or () for <h, e>."""
    total, count = 0.0, 0
    batch, steps = mask.shape
    for b in range(batch):
        for t in range(steps - 1):
            if not (mask[b, t] and mask[b, t + 1]):
                continue
            count += 1
            for embedding, sign in ((behaviors[b, t + 1], 1), (negatives[b, t + 1], -1)):
                if network:
                    x = np.concatenate([interests[b, t], embedding])
                    for i, (kernel, bias) in enumerate(network):
                        x = x @ kernel + bias
                        x = _sigmoid(x) if i < len(network) - 1 else x
                    score = x.item()
                else:
                    score = float(interests[b, t] @ embedding)
                total -= np.log(_sigmoid(np.float64(sign * score)))
    if reduction == "mean":
        count = batch * (steps - 1)
    return total / count if count else 0.0


def evolution(
    query: np.ndarray,
    interests: np.ndarray,
    mask: np.ndarray,
    attention: tuple[list[np.ndarray], list[np.ndarray]],
    gru: Sequence[np.ndarray],
    projection: np.ndarray | None = None,
    gru_type: str = "augru",
    augru_form: str = "paper",
) -> tuple[np.ndarray, np.ndarray]:
    """Last state of the second GRU and the scores.

    `attention` is kernels and biases, `gru` its weights.
    """
    target = query if projection is None else query @ projection
    options: dict[str, Any] = {"mask": mask, "gru_type": gru_type, "augru_form": augru_form}
    if gru_type == "gru":
        states, _ = dynamic_gru(interests, *gru, **options)
        return target_attention(target, states, *attention, mask)
    _, scores = target_attention(target, interests, *attention, mask)
    return dynamic_gru(interests, *gru, attention=scores, **options)[1], scores
