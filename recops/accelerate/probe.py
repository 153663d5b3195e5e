"""A batch to try a model on, drawn from what its inputs say of themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from recops._core import compat
from recops._core.compat import keras
from recops.accelerate.graph import Graph, read

ROWS = 512
# Of an axis whose size the model leaves open.
_STEPS = 12
# Attributes of layers that say how many different ids they take.
_SIZES = ("input_dim", "num_tokens", "vocabulary_size", "max_tokens")


def drawn(model: Any, rows: int = ROWS, seed: int = 0) -> Any:
    """Inputs for a functional or Sequential model, in the structure that it takes them in.

    Ids are drawn within the tables that they are looked up in. Where 0 is padding, each row of ids
    is filled up to a length of its own and holds at least one id.

    Raises: ValueError for a model that says nothing of its inputs.
    """
    if compat.graph_of(model) is None:
        raise ValueError(
            f"accelerate: the model {model.name!r} ({type(model).__name__}) does not say what its "
            f"inputs are; pass batch, inputs as it is called with"
        )
    random = np.random.default_rng(seed)
    inputs = compat.ends_of(model)[0]
    return tf.nest.map_structure(lambda spec: _values(spec, model, rows, random), inputs)


def _values(spec: Any, model: Any, rows: int, random: np.random.Generator) -> Any:
    fixed, *rest = tuple(spec.shape)
    shape = (fixed or rows, *(size or _STEPS for size in rest))
    dtype = tf.as_dtype(spec.dtype)
    if dtype == tf.string:
        return tf.constant(random.choice(["a", "b", "c"], shape))
    if dtype == tf.bool:
        return tf.constant(random.random(shape) < 0.5)
    size, padded = _ids(model, spec)
    if size is None and dtype.is_floating:
        return tf.cast(random.standard_normal(shape), dtype)
    size = size or 2
    values = random.integers(min(1, size - 1) if padded else 0, size, shape)
    if padded and len(shape) == 2:
        lengths = random.integers(1, shape[1] + 1, shape[0])
        values = np.where(np.arange(shape[1]) < lengths[:, None], values, 0)
    return tf.cast(values, dtype)


def _ids(model: Any, tensor: Any) -> tuple[int | None, bool]:
    """How many ids the tables have that a symbolic tensor is looked up in, and if 0 is padding."""
    size, padded = None, False
    graph = Graph(model)
    waiting, seen = [tensor], set()
    while waiting:
        current = waiting.pop()
        for node in graph.readers(current):
            if id(node) in seen:
                continue
            seen.add(id(node))
            found, zero, on = _of_call(node, current)
            size = found if size is None or found is None else min(size, found)
            padded |= zero
            waiting += on
    return size, padded


def _of_call(node: Any, tensor: Any) -> tuple[int | None, bool, list[Any]]:
    """What one call says of the ids that it takes, and the tensors that are ids behind it."""
    layer = node.layer
    if compat.graph_of(layer) is not None:
        inner = tf.nest.flatten(compat.ends_of(layer)[0])
        # Keras sorts a dictionary's entries wherever it flattens it.
        places = [i for i, each in enumerate(read(node)) if each is tensor]
        size, padded = _ids(layer, inner[places[0]])
        return size, padded, []
    sizes = [getattr(layer, name, None) for name in _SIZES]
    size = next((s for s in sizes if isinstance(s, int)), None)
    if size is not None:
        return size, bool(getattr(layer, "mask_zero", False)), []
    passes = isinstance(
        layer, (keras.layers.Reshape, keras.layers.Flatten, keras.layers.RepeatVector)
    )
    whole = all(tf.as_dtype(out.dtype).is_integer for out in node.outputs)
    return None, False, list(node.outputs) if passes or whole else []


def checked(model: Any, batch: Any) -> Any:
    """A given batch as tensors; float64 arrays are what NumPy makes of plain numbers.

    Raises: ValueError where a batch does not fit the inputs of the model.
    """
    batch = tf.nest.map_structure(tf.convert_to_tensor, batch)
    if compat.graph_of(model) is None:
        return batch
    inputs = compat.ends_of(model)[0]
    batch = _structured(model, inputs, batch)
    for spec, value in zip(tf.nest.flatten(inputs), tf.nest.flatten(batch)):
        if not tf.TensorShape(spec.shape).is_compatible_with(value.shape):
            raise ValueError(
                f"accelerate: batch has {list(value.shape)} for the input {spec.name!r}, and the "
                f"model {model.name!r} takes {list(spec.shape)}"
            )
    return tf.nest.map_structure(lambda s, v: _cast(v, tf.as_dtype(s.dtype)), inputs, batch)


def _cast(value: Any, dtype: Any) -> Any:
    return value if tf.string in (value.dtype, dtype) else tf.cast(value, dtype)


def _structured(model: Any, inputs: Any, batch: Any) -> Any:
    """The batch in the structure of the inputs; a dictionary may hold more than the model takes."""
    named = [spec.name for spec in tf.nest.flatten(inputs)]
    if isinstance(batch, dict):
        named = list(inputs) if isinstance(inputs, dict) else named
        missing = [name for name in named if name not in batch]
        if missing:
            raise ValueError(
                f"accelerate: batch lacks {', '.join(map(repr, missing))} of the inputs of the "
                f"model {model.name!r}; it has {', '.join(map(repr, batch)) or 'nothing'}"
            )
        if isinstance(inputs, dict):
            return {name: batch[name] for name in inputs}
        return tf.nest.pack_sequence_as(inputs, [batch[name] for name in named])
    flat = tf.nest.flatten(batch)
    if len(flat) != len(named):
        raise ValueError(
            f"accelerate: batch has {len(flat)} arrays, and the model {model.name!r} takes "
            f"{len(named)}: {', '.join(named)}"
        )
    return tf.nest.pack_sequence_as(inputs, flat)
