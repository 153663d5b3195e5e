"""AutoInt's layers for the contract of all layers."""

from __future__ import annotations

import numpy as np

from recops import layers
from tests.layers.spec import D, F, Spec, floats
from tests.oracles.interacting import interacting

SPECS = [
    Spec(
        "interacting",
        lambda **kw: layers.InteractingLayer(2, 3, **kw),
        floats(F, D),
        interacting,
    ),
    Spec(
        "number_embedding",
        lambda **kw: layers.NumberEmbedding(D, **kw),
        floats(2),
        lambda layer, x: x[:, :, None] * np.asarray(layer.embeddings),
        runs_op=False,
    ),
]
