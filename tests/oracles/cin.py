"""Compressed interaction network, from Lian 2018 (xDeepFM), eq. 6 to 8: a sum over all pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def compressed_interaction(x0: np.ndarray, xk: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    out = np.zeros((len(x0), len(kernel), x0.shape[2]))
    for o in range(len(kernel)):
        for h in range(xk.shape[1]):
            for f in range(x0.shape[1]):
                out[:, o] += kernel[o, h, f] * xk[:, h] * x0[:, f]
    return out


def cin(
    x: np.ndarray,
    kernels: Sequence[np.ndarray],
    biases: Sequence[np.ndarray] | None = None,
    activation: str | None = None,
    split_half: bool = False,
) -> np.ndarray:
    state, pooled = x, []
    for k, kernel in enumerate(kernels):
        state = compressed_interaction(x, state, kernel)
        if biases is not None:
            state = state + biases[k][None, :, None]
        if activation == "relu":
            state = np.maximum(state, 0)
        half = state.shape[1] // 2 if split_half and k < len(kernels) - 1 else None
        pooled.append((state if half is None else state[:, half:]).sum(2))
        state = state[:, :half]
    return np.concatenate(pooled, axis=1)


ORACLES = {"compressed_interaction": compressed_interaction, "cin": cin}
