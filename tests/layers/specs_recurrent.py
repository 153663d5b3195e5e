"""Recurrent layers for the contract of all layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from recops import layers
from tests.layers.spec import D, Spec, call_masked, floats
from tests.oracles.bilstm import stacks
from tests.oracles.dynamic_gru import dynamic_gru

T, H = 5, 2


def _gru(layer: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return dynamic_gru(x.astype(np.float64), *layer.get_weights(), reset_after=True)


def _augru_inputs(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "x": floats(T, D)(rng),
        "attention": rng.uniform(size=(6, T)).astype(np.float32),
        "mask": np.arange(T) < np.array([1, 2, 3, 4, 5, 0])[:, None],
    }


def _augru(layer: Any, x: dict[str, np.ndarray]) -> np.ndarray:
    kernel, recurrent, bias = layer.get_weights()
    inputs, attention = x["x"].astype(np.float64), x["attention"].astype(np.float64)
    options = {"gru_type": "augru", "zero_output_for_mask": True}
    return dynamic_gru(inputs, kernel, recurrent, bias, attention, x["mask"], **options)[0]


SPECS = [
    Spec(
        "gru",
        lambda **kw: layers.GRU(H, return_sequences=True, return_state=True, **kw),
        floats(T, D),
        _gru,
    ),
    Spec(
        "dynamic_gru",
        lambda **kw: layers.DynamicGRU(gru_type="augru", **kw),
        _augru_inputs,
        _augru,
        call=lambda layer, x: layer(x["x"], x["attention"], mask=x["mask"]),
    ),
    Spec(
        "bilstm",
        lambda **kw: layers.BiLSTM(H, layers=1, dropout_rate=0.0, merge_mode="concat", **kw),
        floats(T, D),
        lambda layer, x: np.concatenate(stacks(layer, x), axis=2),
        call_masked,
        runs_op=False,
    ),
]
