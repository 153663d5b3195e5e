"""Outer product layer, from Qu 2016 (PNN), section III.C: the matrix is summed over all pairs."""

from __future__ import annotations

import itertools

import numpy as np


def outer_product(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    out = np.zeros((x.shape[0], kernel.shape[0]))
    for i, j in itertools.product(range(x.shape[1]), repeat=2):
        out += np.einsum("bd,be,ude->bu", x[:, i], x[:, j], kernel)
    return out


ORACLES = {"outer_product": outer_product}
