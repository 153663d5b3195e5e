"""SampledSoftmax and BatchAwareL2 for the contract of all layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from recops import layers
from tests.layers.spec import D, Spec, floats, ids
from tests.oracles.sampled_softmax import sampled_softmax

IDS = np.array([1, 4, 7, 7])
LOG_IDS = np.log(np.array([0.5, 1.0, 2.0, 2.0])).astype("float32")


def _inputs(rng: np.random.Generator) -> dict[str, np.ndarray]:
    log_labels = np.log(rng.uniform(0.5, 2.0, size=6)).astype("float32")
    return {"inputs": floats(D)(rng), "labels": ids(rng, 8), "log_labels": log_labels}


def _call(layer: Any, x: dict[str, Any]) -> Any:
    return layer(x["inputs"], x["labels"], (IDS, x["log_labels"], LOG_IDS))


def _expected(layer: Any, x: dict[str, np.ndarray]) -> np.ndarray:
    loss = sampled_softmax(
        x["inputs"],
        x["labels"],
        np.asarray(layer.embeddings),
        np.asarray(layer.bias),
        num_sampled=4,
        sampled=(IDS, x["log_labels"], LOG_IDS),
    )
    return loss[:, None]


SPECS = [
    Spec(
        "sampled_softmax",
        lambda **kw: layers.SampledSoftmax(8, 4, use_bias=True, seed=1, **kw),
        _inputs,
        _expected,
        call=_call,
        wide=True,
    ),
    Spec(
        "batch_aware_l2",
        lambda **kw: layers.BatchAwareL2(8, counts=np.arange(9), **kw),
        lambda rng: {"ids": ids(rng, 8, 2), "embeddings": floats(2, D)(rng)},
        lambda layer, x: x["embeddings"],
        call=lambda layer, x: layer(x["ids"], x["embeddings"]),
    ),
]
