"""Table lookups by NumPy indexing, one example and one id at a time."""

from __future__ import annotations

import numpy as np


def embedding_lookup(
    table: np.ndarray, ids: np.ndarray, offsets: np.ndarray | None = None
) -> np.ndarray:
    offsets = np.zeros(ids.shape[1], ids.dtype) if offsets is None else offsets
    out = np.zeros((*ids.shape, table.shape[1]))
    for b, f in np.ndindex(ids.shape):
        out[b, f] = table[ids[b, f] + offsets[f]]
    return out


def embedding_bag(
    table: np.ndarray,
    ids: np.ndarray,
    mask: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    combiner: str = "mean",
) -> np.ndarray:
    out = np.zeros((len(ids), table.shape[1]))
    for b, row in enumerate(ids):
        kept = range(len(row)) if mask is None else np.flatnonzero(mask[b])
        w = {t: 1.0 if weights is None else weights[b, t] for t in kept}
        scale = {
            "sum": 1.0,
            "mean": sum(w.values()),
            "sqrtn": np.sqrt(sum(v * v for v in w.values())),
        }[combiner]
        for t in kept:
            out[b] += w[t] * table[row[t]] / scale
    return out


ORACLES = {"embedding_lookup": embedding_lookup, "embedding_bag": embedding_bag}
