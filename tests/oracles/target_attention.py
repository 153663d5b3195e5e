"""DIN's activation unit, from Zhou 2018 section 4.3: one network a step, a loop over rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_FUNCTIONS = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "linear": lambda x: x,
    None: lambda x: x,
}


def target_attention(
    query: np.ndarray,
    keys: np.ndarray,
    kernels: Sequence[np.ndarray],
    biases: Sequence[np.ndarray],
    mask: np.ndarray | None = None,
    activation: str | None = "sigmoid",
    normalize: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    batch, steps, dim = keys.shape
    pooled, weights = np.zeros((batch, dim)), np.zeros((batch, steps))
    for b in range(batch):
        kept = [t for t in range(steps) if mask is None or mask[b, t]]
        for t in kept:
            q, k = query[b], keys[b, t]
            x = np.concatenate([q, k, q - k, q * k])
            for i, kernel in enumerate(kernels):
                x = x @ kernel + (biases[i] if i < len(biases) else 0)
                if i < len(kernels) - 1:
                    x = _FUNCTIONS[activation](x)
            weights[b, t] = x.item()
        if normalize and kept:
            powers = np.exp(weights[b, kept] - weights[b, kept].max())
            weights[b, kept] = powers / powers.sum()
        pooled[b] = sum((weights[b, t] * keys[b, t] for t in kept), np.zeros(dim))
    return pooled, weights


def with_dice(layer: Any, x: Mapping[str, Any]) -> np.ndarray:
    """The pooled history of a built layer whose activation is Dice, out of training."""
    q, k = (x[name].astype(np.float64) for name in ("query", "keys"))
    q = q[:, None] + 0 * k
    hidden = np.concatenate([q, k, q - k, q * k], axis=2)
    for kernel, bias, dice in zip(layer.kernels, layer.biases, layer.activations):
        s = hidden @ np.asarray(kernel) + np.asarray(bias)
        alpha, mean, variance = map(np.asarray, dice.get_weights())
        p = 1 / (1 + np.exp(-(s - mean) / np.sqrt(variance + dice.epsilon)))
        hidden = p * s + (1 - p) * alpha * s
    scores = (hidden @ np.asarray(layer.kernels[-1]))[..., 0]
    powers = np.where(x["mask"], np.exp(scores), 0)
    weights = powers / np.maximum(powers.sum(1, keepdims=True), 1e-30)
    return np.einsum("bt,btd->bd", weights, k)


ORACLES = {"target_attention": target_attention}
