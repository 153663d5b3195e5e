"""AutoInt's layers for the contract of all layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from recops import layers
from tests.layers.specs import D, F, Spec, _floats
from tests.oracles.attention import multi_head_attention


def interacting(layer: Any, x: np.ndarray) -> np.ndarray:
    """Each head of AutoInt, eq. 5 to 8, from columns of the joined kernel."""
    heads, dim = layer.num_heads, layer.head_dim
    width = heads * dim
    kernel = np.asarray(layer.kernel)
    query, key, value = (
        (x @ kernel[:, i * width : (i + 1) * width]).reshape(*x.shape[:2], heads, dim)
        for i in range(3)
    )
    scale = dim**-0.5 if layer.scaling else 1.0
    y = multi_head_attention(query, key, value, scale=scale).reshape(*x.shape[:2], width)
    return np.maximum(y + x @ np.asarray(layer.residual_kernel), 0)


SPECS = [
    Spec(
        "interacting",
        lambda **kw: layers.InteractingLayer(2, 3, **kw),
        _floats(F, D),
        interacting,
    ),
    Spec(
        "number_embedding",
        lambda **kw: layers.NumberEmbedding(D, **kw),
        _floats(2),
        lambda layer, x: x[:, :, None] * np.asarray(layer.embeddings),
        runs_op=False,
    ),
]
