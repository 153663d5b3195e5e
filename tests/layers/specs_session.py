"""DSIN's layers for the contract of all layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from recops import layers
from tests.layers.spec import B, Spec, floats
from tests.oracles.session import bias_encoding, session_extractor, session_interest

K, T, D = 3, 4, 4


def sessions(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Sessions padded at the end, some of them empty."""
    lengths = rng.integers(0, T + 1, size=(B, K, 1))
    return {
        "sessions": rng.normal(size=(B, K, T, D)).astype(np.float32),
        "mask": np.arange(T) < lengths,
    }


def _with_query(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"query": rng.normal(size=(B, D)).astype(np.float32), **sessions(rng)}


def _extracted(layer: Any, x: Any) -> Any:
    return layer(x["sessions"], mask=x["mask"])


SPECS = [
    Spec(
        "bias_encoding",
        lambda **kw: layers.BiasEncoding("random_normal", **kw),
        floats(K, T, D),
        bias_encoding,
        runs_op=False,
    ),
    Spec(
        "session_extractor",
        lambda **kw: layers.SessionExtractor(2, **kw),
        sessions,
        lambda layer, x: session_extractor(layer, x["sessions"], x["mask"]),
        call=_extracted,
    ),
    Spec(
        "session_interest",
        lambda **kw: layers.SessionInterest(2, hidden_units=(), **kw),
        _with_query,
        lambda layer, x: session_interest(layer, x["query"], x["sessions"], x["mask"]),
        call=lambda layer, x: layer(x["query"], x["sessions"], mask=x["mask"]),
    ),
]
