"""AutoInt's interacting layer from Song 2019, with the weights of a layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.oracles.attention import multi_head_attention


def interacting(layer: Any, x: np.ndarray) -> np.ndarray:
    """Equations 5 to 8; each head is a block of columns of the joined kernel."""
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
