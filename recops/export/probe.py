"""A batch to compare programs on, drawn from what is known of a model's inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from recops._core import compat
from recops._core.compat import keras
from recops.features import DenseFeature
from recops.layers import EmbeddingBag

# An odd number: what is done by twos or fours has a rest.
ROWS = 5
# Of an axis other than the batch that may have any size.
STEPS = 4


def largest_ids(model: Any) -> dict[str, int]:
    """The largest id of each input of a functional model that goes straight into a table."""
    found: dict[str, int] = {}
    for layer in model.layers:
        for name, largest in _of_layer(layer):
            found[name] = min(largest, found.get(name, largest))
    return found


def _of_layer(layer: Any) -> list[tuple[str, int]]:
    features = getattr(layer, "features", None)
    if isinstance(features, (tuple, list)):
        named = [f for f in features if hasattr(f, "vocabulary_size")]
        return [(f.name, f.vocabulary_size) for f in named if not isinstance(f, DenseFeature)]
    if isinstance(layer, EmbeddingBag):
        largest = layer.vocabulary_size
    elif isinstance(layer, keras.layers.Embedding):
        largest = layer.input_dim - 1
    else:
        return []
    symbols = tf.nest.flatten(compat.call_arguments(layer))
    return [
        (symbol.name, largest)
        for symbol in symbols
        if hasattr(symbol, "_keras_history")
        and isinstance(compat.producer(symbol), keras.layers.InputLayer)
    ]


def draw(
    specs: Mapping[str, tf.TensorSpec], largest: Mapping[str, int], rows: int = ROWS, seed: int = 0
) -> dict[str, np.ndarray]:
    """A batch of a few rows; the first one's lists are half padding, the last one's all of it.

    Ids are drawn up to the largest, which is 1 where it is not known.
    """
    rng = np.random.default_rng(seed)
    return {name: _drawn(spec, largest.get(name, 1), rows, rng) for name, spec in specs.items()}


def _drawn(spec: tf.TensorSpec, largest: int, rows: int, rng: np.random.Generator) -> np.ndarray:
    shape = [STEPS if size is None else size for size in spec.shape]
    if shape and spec.shape[0] is None:
        shape[0] = rows
    if spec.dtype.is_floating:
        return rng.normal(size=shape).astype(spec.dtype.as_numpy_dtype)
    if spec.dtype == tf.bool:
        return rng.random(shape) < 0.5
    # A single number is an id that says something, such as where a list begins.
    drawn = np.asarray(rng.integers(0 if shape else 1, largest, shape, endpoint=True))
    if len(shape) > 1 and shape[0] > 1:
        drawn[0, ..., shape[-1] // 2 :] = 0
        drawn[-1] = 0
    return drawn.astype("S" if spec.dtype == tf.string else spec.dtype.as_numpy_dtype)
