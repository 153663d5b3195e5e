"""DIN's activation unit for the contract of all layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recops import layers
from tests.layers.spec import B, D, Spec
from tests.oracles.target_attention import target_attention, with_dice

T = 4


def behaviors(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A target, its history padded at the end, and one example with nothing but padding."""
    return {
        "query": rng.normal(size=(B, D)).astype(np.float32),
        "keys": rng.normal(size=(B, T, D)).astype(np.float32),
        "mask": np.arange(T) < np.array([1, 2, 3, 4, 2, 0])[:, None],
    }


def _attended(layer: Any, x: Mapping[str, Any]) -> Any:
    return layer(x["query"], x["keys"], mask=x["mask"])


def _expected(layer: Any, x: Mapping[str, Any]) -> Any:
    network = [[np.asarray(w, np.float64) for w in ws] for ws in (layer.kernels, layer.biases)]
    options = (x["mask"], layer.activation, layer.weight_normalization)
    pooled, weights = target_attention(x["query"], x["keys"], *network, *options)
    return (pooled, weights) if layer.return_weights else pooled


SPECS = [
    Spec(
        "target_attention",
        lambda **kw: layers.TargetAttention([4, 3], return_weights=True, **kw),
        behaviors,
        _expected,
        call=_attended,
    ),
    Spec(
        "target_attention_raw",
        lambda **kw: layers.TargetAttention([4], None, weight_normalization=False, **kw),
        behaviors,
        _expected,
        call=_attended,
    ),
    Spec(
        "target_attention_dice",
        lambda **kw: layers.TargetAttention([4, 3], "dice", **kw),
        behaviors,
        with_dice,
        call=_attended,
        runs_op=False,
    ),
]
