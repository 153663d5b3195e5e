"""Cross network, from Wang 2017 eq. 3 (vector) and Wang 2021 eq. 1 (matrix), layer by layer."""

from __future__ import annotations

import numpy as np


def cross_network(x: np.ndarray, kernels: list[np.ndarray], biases: list[np.ndarray]) -> np.ndarray:
    state = x
    for kernel, bias in zip(kernels, biases):
        if kernel.ndim == 1:
            outer = np.einsum("bi,bj->bij", x, state)
            state = outer @ kernel + bias + state
        else:
            state = x * (state @ kernel + bias) + state
    return state


ORACLES = {"cross_network": cross_network}
