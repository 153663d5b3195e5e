"""Dense layer: each unit's weighted sum of a row, plus its bias, activated."""

from __future__ import annotations

import numpy as np

_ACTIVATIONS = {
    "sigmoid": lambda s: 1 / (1 + np.exp(-s)),
    "relu": lambda s: np.maximum(s, 0),
    "tanh": np.tanh,
    "linear": lambda s: s,
    None: lambda s: s,
}


def dense(
    x: np.ndarray,
    kernel: np.ndarray,
    bias: np.ndarray | None = None,
    activation: str | None = None,
) -> np.ndarray:
    out = np.zeros((*x.shape[:-1], kernel.shape[1]))
    for unit in range(kernel.shape[1]):
        sums = (x * kernel[:, unit]).sum(axis=-1) + (0 if bias is None else bias[unit])
        out[..., unit] = _ACTIVATIONS[activation](sums)
    return out


ORACLES = {"dense": dense}
