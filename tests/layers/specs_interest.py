"""DIEN's layers for the contract of all layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from recops import layers
from tests.layers.spec import D, Spec, floats
from tests.oracles.dynamic_gru import dynamic_gru
from tests.oracles.interest import evolution

T, H = 5, 4
MASK = np.arange(T) < np.array([1, 2, 3, 4, 5, 0])[:, None]


def _behaviors(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"behaviors": floats(T, D)(rng), "negatives": floats(T, D)(rng), "mask": MASK}


def _extracted(layer: Any, x: dict[str, np.ndarray]) -> np.ndarray:
    weights = (w.astype(np.float64) for w in layer.gru.get_weights())
    return dynamic_gru(x["behaviors"], *weights, mask=x["mask"], zero_output_for_mask=True)[0]


def _interests(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"query": floats(D)(rng), "interests": floats(T, H)(rng), "mask": MASK}


def attention_of(layer: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Kernels and biases of a `TargetAttention`."""
    weights = [w.astype(np.float64) for w in layer.get_weights()]
    return [w for w in weights if w.ndim == 2], [w for w in weights if w.ndim == 1]


def _evolved(layer: Any, x: dict[str, np.ndarray]) -> Any:
    out, scores = evolution(
        x["query"],
        x["interests"],
        x["mask"],
        attention_of(layer.attention),
        layer.gru.get_weights(),
        layer.projection.get_weights()[0],
        layer.gru_type,
    )
    return (out, scores) if layer.return_weights else out


SPECS = [
    Spec(
        "interest_extractor",
        lambda **kw: layers.InterestExtractor(H, auxiliary_units=(3,), **kw),
        _behaviors,
        _extracted,
        call=lambda layer, x: layer(x["behaviors"], x["negatives"], mask=x["mask"]),
    ),
    Spec(
        "interest_evolution",
        lambda **kw: layers.InterestEvolution(hidden_units=(5,), **kw),
        _interests,
        _evolved,
        call=lambda layer, x: layer(x["query"], x["interests"], mask=x["mask"]),
    ),
    Spec(
        "interest_evolution_scores",
        lambda **kw: layers.InterestEvolution(hidden_units=(5,), return_weights=True, **kw),
        _interests,
        _evolved,
        call=lambda layer, x: layer(x["query"], x["interests"], mask=x["mask"]),
    ),
]
