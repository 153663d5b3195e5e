"""BST's layers for the contract of all layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from recops import layers
from tests.layers.spec import B, Spec, call_masked, floats
from tests.oracles.behavior import behavior_transformer, recency

T, D = 4, 4


def history(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Histories padded at the end, one of them empty, each with its target."""
    lengths = np.array([0, 1, 2, 3, 4, 2])[:, None]
    return {
        "query": rng.normal(size=(B, D)).astype(np.float32),
        "behaviors": rng.normal(size=(B, T, D)).astype(np.float32),
        "mask": np.arange(T) < lengths,
    }


def _transformed(pooling: str) -> Spec:
    def make(**kwargs: Any) -> Any:
        return layers.BehaviorTransformer(
            num_heads=2, intermediate_dim=5, activation="relu", pooling=pooling, **kwargs
        )

    return Spec(
        f"behavior_transformer_{pooling}",
        make,
        history,
        lambda layer, x: behavior_transformer(layer, x["query"], x["behaviors"], x["mask"]),
        call=lambda layer, x: layer(x["query"], x["behaviors"], mask=x["mask"]),
    )


SPECS = [
    Spec(
        "recency_encoding",
        lambda **kw: layers.RecencyEncoding("random_normal", **kw),
        floats(T, D),
        lambda layer, x: recency(np.asarray(layer.embeddings), x, np.ones(x.shape[:2], bool)),
        call_masked,
    ),
    _transformed("flatten"),
    _transformed("mean"),
]
