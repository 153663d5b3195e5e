"""Every layer once or more, with inputs and the same result without it, for all tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from recops._core.compat import keras
from tests.layers import (
    specs_behavior,
    specs_fields,
    specs_interacting,
    specs_interest,
    specs_lsplm,
    specs_recurrent,
    specs_sampled,
    specs_session,
    specs_target_attention,
    specs_transformer,
)
from tests.layers.spec import Spec

GROUPS: dict[str, list[Spec]] = {
    "behavior": specs_behavior.SPECS,
    "fields": specs_fields.SPECS,
    "interacting": specs_interacting.SPECS,
    "interest": specs_interest.SPECS,
    "lsplm": specs_lsplm.SPECS,
    "recurrent": specs_recurrent.SPECS,
    "sampled": specs_sampled.SPECS,
    "session": specs_session.SPECS,
    "target_attention": specs_target_attention.SPECS,
    "transformer": specs_transformer.SPECS,
}
SPECS = [spec for group in GROUPS.values() for spec in group]


def keras_inputs(x: Any, prefix: str = "") -> Any:
    """Keras inputs for an array or a dict of arrays."""
    if isinstance(x, dict):
        return {name: keras_inputs(value, f"{prefix}_{name}") for name, value in x.items()}
    return keras.Input(shape=x.shape[1:], dtype=x.dtype.name, name=prefix or None)


def together(specs: list[Spec], seed: int = 0) -> tuple[Any, dict[str, np.ndarray]]:
    """A model of all these layers, whose output is all of theirs side by side, and a batch."""
    rng = np.random.default_rng(seed)
    inputs: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    outputs = []
    for spec in specs:
        x = spec.inputs(rng)
        symbols = keras_inputs(x, f"{spec.name}_input")
        results = tf.nest.flatten(spec.call(spec.make(name=spec.name), symbols))
        outputs += [keras.layers.Flatten()(y) for y in results if y.dtype != "bool"]
        for symbol, array in zip(tf.nest.flatten(symbols), tf.nest.flatten(x)):
            inputs[symbol.name], arrays[symbol.name] = symbol, array
    model = keras.Model(inputs, keras.layers.Concatenate()(outputs))
    # Positive weights: drawn at random, those behind a ReLU may be dead for a whole batch.
    model.set_weights([rng.uniform(0.1, 0.5, size=w.shape) for w in model.weights])
    return model, arrays
