"""Stock models to accelerate, small ones, and what tests ask of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from recops._core import compat
from recops._core.compat import keras

L = keras.layers


def behaviour(**options: Any) -> Any:
    """Two inputs of ids, a padded history, GRU and attention, two more tables."""
    history = keras.Input((8,), dtype="int32", name="history")
    user = keras.Input((1,), dtype="int32", name="user")
    item = keras.Input((1,), dtype="int32", name="item")
    steps = L.Embedding(30, 6, mask_zero=True, name="steps")(history)
    steps = L.GRU(6, return_sequences=True, name="gru", **options)(steps)
    steps = L.MultiHeadAttention(2, 3, name="attention")(steps, steps)
    seen = L.GlobalAveragePooling1D(name="mean")(steps)
    fields = [L.Embedding(20 + 5 * i, 4, name=n)(x) for i, (n, x) in enumerate(_named(user, item))]
    joined = L.Concatenate()([seen, *(L.Flatten()(field) for field in fields)])
    hidden = L.Dropout(0.4, seed=3, name="drop")(
        L.Dense(5, activation="relu", name="hidden")(joined)
    )
    out = L.Dense(1, activation="sigmoid", name="out")(hidden)
    return keras.Model([history, user, item], out, name="behaviour")


def _named(user: Any, item: Any) -> list[tuple[str, Any]]:
    return [("of_user", user), ("of_item", item)]


def batch(rows: int = 24, seed: int = 0) -> list[tf.Tensor]:
    """Inputs of `behaviour`; each row has an id at least."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 9, rows)
    history = np.where(np.arange(8) < lengths[:, None], random.integers(1, 30, (rows, 8)), 0)
    user, item = random.integers(0, 20, (2, rows, 1))
    return [tf.constant(x, tf.int32) for x in (history, user, item)]


def labels(rows: int = 24, seed: int = 0) -> np.ndarray:
    """A label for each row."""
    return np.random.default_rng(seed).integers(0, 2, (rows, 1)).astype("float32")


def arrays(variables: Any) -> list[np.ndarray]:
    """The values of variables."""
    return [np.asarray(compat.as_tensor(compat.variable(v))) for v in variables]


def same(one: Any, other: Any, tolerance: float = 1e-5) -> None:
    """Assert that structures of tensors agree, relative to the largest value."""
    flat = list(zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True))
    assert flat
    for a, b in flat:
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert a.shape == b.shape
        np.testing.assert_allclose(b, a, rtol=0, atol=tolerance * max(np.abs(a).max(), 1e-3))


def now(report: Any) -> dict[str, Any]:
    """What each layer became, by its name."""
    return {row.layer: row.now for row in report.rows}


def reasons(report: Any) -> dict[str, str]:
    """Why, by the layer's name."""
    return {row.layer: row.reason for row in report.rows}
