"""Bilinear interaction, from Huang 2019 (FiBiNET), eq. 6 to 8: one loop over the pairs."""

from __future__ import annotations

import itertools

import numpy as np


def bilinear_interaction(x: np.ndarray, kernel: np.ndarray, bilinear_type: str) -> np.ndarray:
    out = []
    for p, (i, j) in enumerate(itertools.combinations(range(x.shape[1]), 2)):
        which = {"all": (), "each": i, "interaction": p}[bilinear_type]
        matrix = kernel[which]
        out.append(np.einsum("bd,de->be", x[:, i], matrix) * x[:, j])
    return np.stack(out, 1)


ORACLES = {"bilinear_interaction": bilinear_interaction}
