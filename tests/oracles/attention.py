"""Multi-head attention from Vaswani 2017 eq. 1, one row of scores at a time."""

from __future__ import annotations

import numpy as np


def multi_head_attention(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    mask: np.ndarray | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> np.ndarray:
    batch, steps, heads, dim = query.shape
    sources = key.shape[1]
    scale = 1 / np.sqrt(dim) if scale is None else scale
    out = np.zeros((batch, steps, heads, value.shape[3]))
    for b, t, n in np.ndindex(batch, steps, heads):
        kept = np.ones(sources, bool)
        if mask is not None and mask.ndim == 2:
            kept = mask[b].copy()
        elif mask is not None and mask.ndim == 3:
            kept = mask[b, t].copy()
        elif mask is not None:
            kept = mask[b, n if mask.shape[1] > 1 else 0, t].copy()
        if causal:
            kept &= np.arange(sources) <= t
        if kept.any():
            scores = key[b, kept, n] @ query[b, t, n] * scale
            weights = np.exp(scores - scores.max())
            out[b, t, n] = weights / weights.sum() @ value[b, kept, n]
    return out


ORACLES = {"multi_head_attention": multi_head_attention}
