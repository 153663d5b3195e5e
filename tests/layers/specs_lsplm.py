"""LS-PLM's layers for the contract of all layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from recops import layers
from tests.layers.spec import Spec, floats


def mixture(logits: np.ndarray) -> np.ndarray:
    """Gai 2017, eq. 2: one region after the other."""
    regions, predictions = np.split(logits, 2, axis=1)
    gates = np.exp(regions) / np.exp(regions).sum(1, keepdims=True)
    total = sum(gates[:, r] / (1 + np.exp(-predictions[:, r])) for r in range(gates.shape[1]))
    return total[:, None]


def _lsplm(layer: Any, x: np.ndarray) -> np.ndarray:
    return mixture(x @ np.asarray(layer.kernel) + np.asarray(layer.bias))


SPECS = [
    Spec(
        "lsplm",
        lambda **kw: layers.LSPLM(3, l1=1e-3, l21=1e-3, **kw),
        floats(5),
        _lsplm,
        runs_op=False,
    ),
    Spec(
        "region_mixture",
        lambda **kw: layers.RegionMixture(**kw),
        floats(6),
        lambda layer, x: mixture(x),
        runs_op=False,
    ),
]
