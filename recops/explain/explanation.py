"""What a trained model looked at: the attention and the field weights within it, as arrays."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from recops._core import compat
from recops._core.compat import keras
from recops.explain import pictures
from recops.explain.weights import Weights
from recops.layers import (
    SENET,
    AttentionalPooling,
    FusedEmbedding,
    InteractingLayer,
    InterestEvolution,
    NumberEmbedding,
    PaddingMask,
    TargetAttention,
)

# Rows that go through the model at once.
_ROWS = 1024


@dataclass(frozen=True)
class Explanation:
    """What a model looked at in each row of a batch, by the names of its layers.

    Args:
      parts: what each layer looked at.
      predictions: [B, ...], what the model said.

    Example:
      >>> found = Explanation({}, np.zeros((2, 1)))
      >>> found.weights
      {}
    """

    parts: Mapping[str, Weights]
    predictions: np.ndarray = field(repr=False)

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """The arrays alone, by name of the layer."""
        return {name: part.values for name, part in self.parts.items()}

    def figure(self, name: str, row: int | None = None) -> Any:
        """The matplotlib figure of one layer.

        Args:
          name: of the layer, a key of `parts`.
          row: of the batch; None shows the mean over the batch.

        Raises: ValueError for an unknown name or row; ImportError that names the extra to install.
        """
        if name not in self.parts:
            raise ValueError(
                f"Explanation: expected a layer among {', '.join(self.parts)}, got {name!r}"
            )
        count = len(self.predictions)
        if not count or not (row is None or 0 <= row < count):
            raise ValueError(
                f"Explanation: the batch has {count} rows, from 0, and none of them is row {row}"
            )
        return pictures.draw(name, self.parts[name], row)

    def plot(self, folder: str | os.PathLike[str], row: int | None = None) -> list[Path]:
        """Write the figure of each layer to FOLDER/LAYER.png and return the paths.

        Args, Raises: as `figure`; OSError when the folder cannot be written.
        """
        made = {name: self.figure(name, row) for name in self.parts}
        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, figure in made.items():
            # A layer may be named by a path.
            paths.append(folder / f"{name.replace('/', '_')}.png")
            figure.savefig(paths[-1], dpi=144)
        return paths


def explain(model: Any, batch: Any) -> Explanation:
    """What a model looked at: attention and field weights of every layer that has some.

    | layer | model | weights |
    |---|---|---|
    | AttentionalPooling | AFM | [B, P] over the pairs of fields |
    | SENET | FiBiNET | [B, F], a factor a field |
    | InteractingLayer | AutoInt | [B, N, F, F], heads, from a field (row) to a field (column) |
    | TargetAttention | DIN | [B, T] over the steps of a history, 0 at padding |
    | InterestEvolution | DIEN | [B, T], likewise |

    Args:
      model: a functional Keras model, built by `recops.models`, by hand, or reloaded. It is neither
        changed nor traced anew.
      batch: what the model takes: a dict of arrays [B, ...] by input name, of which further keys
        are ignored.

    Returns: Explanation, in the order of the layers, in float32.

    Raises: ValueError for a model that is not functional or has no such layer, or a batch that
    lacks an input.

    Numerics: as the layers'; in mixed precision the weights have the compute dtype's digits.

    Source: Xiao et al., AFM, eq. 5; Huang et al., FiBiNET, section 3.2; Song et al., AutoInt,
    section 4.4; Zhou et al., DIN, section 4.3, and DIEN, section 4.3.

    Example:
      >>> import numpy as np
      >>> from recops.features import SparseFeature
      >>> from recops.models import AFM
      >>> model = AFM([SparseFeature(name, 9) for name in ("user", "item", "hour")])
      >>> batch = {name: np.array([1, 2]) for name in ("user", "item", "hour")}
      >>> found = explain(model, batch)
      >>> found.weights["interaction"].shape, found.parts["interaction"].axes
      ((2, 3), (('user x item', 'user x hour', 'item x hour'),))
    """
    try:
        inputs = model.input
        layers = model.layers
    except (AttributeError, RuntimeError, ValueError):
        raise ValueError(
            f"explain: expected a functional Keras model, such as those of recops.models, got "
            f"{type(model).__name__}"
        ) from None
    shown = [layer for layer in layers if type(layer) in _KINDS]
    if not shown:
        known = ", ".join(f"{kind.__name__} ({of})" for kind, (of, *_) in _KINDS.items())
        raise ValueError(
            f"explain: the model {model.name!r} has no layer that can be explained; these can: "
            f"{known}"
        )
    batch = _taken(inputs, batch)
    twins = {layer.name: _twin(layer) for layer in shown}
    found = _run(keras.Model(inputs, {**twins, "": model.output}), batch)
    predictions = found.pop("")
    parts = {}
    for layer in shown:
        axes = _KINDS[type(layer)][2]
        history = _history(layer)
        parts[layer.name] = Weights(
            type(layer).__name__,
            found[layer.name],
            axes(layer, found[layer.name].shape),
            None if history is None else np.asarray(batch[history]),
            history,
        )
    return Explanation(parts, predictions)


def _twin(layer: Any) -> Any:
    """The weights that a layer makes of its inputs, by another with its configuration.

    The layer itself stays as it is: what it returns is part of the model's graph.
    """
    returning = _KINDS[type(layer)][1]
    config = {**layer.get_config(), "name": f"explained_{layer.name}", returning: True}
    twin = type(layer).from_config(config)
    arguments, named = compat.call_arguments(layer)
    _, weights = twin(*arguments, **named)
    twin.set_weights(layer.get_weights())
    return weights


def _taken(inputs: Any, batch: Any) -> Any:
    """Of a batch what the model takes."""
    if not isinstance(inputs, dict):
        return tf.nest.map_structure(np.asarray, batch)
    lacking = [name for name in inputs if name not in batch]
    if lacking:
        raise ValueError(
            f"explain: the batch lacks the input {lacking[0]!r}; it has "
            f"{', '.join(map(repr, batch)) or 'nothing'}"
        )
    return {name: np.asarray(batch[name]) for name in inputs}


def _run(model: Any, batch: Any) -> dict[str, np.ndarray]:
    rows = len(tf.nest.flatten(batch)[0])
    blocks = []
    for start in range(0, max(rows, 1), _ROWS):
        block = tf.nest.map_structure(lambda x, i=start: x[i : i + _ROWS], batch)
        blocks.append(model(block, training=False))
    return {
        name: np.concatenate([tf.cast(block[name], tf.float32).numpy() for block in blocks])
        for name in blocks[0]
    }


def _fields(tensor: Any, count: int) -> tuple[str, ...]:
    """Names of the fields in a tensor [B, F, D]: what the layers before it say, or their places."""
    found = _named(tensor)
    if found is not None and len(found) == count:
        return tuple(found)
    return tuple(f"field {i}" for i in range(count))


def _named(tensor: Any) -> list[str] | None:
    """Fields, or columns, of a tensor by name, where the layer that made it tells them."""
    layer = compat.producer(tensor)
    if isinstance(layer, FusedEmbedding):
        return [feature.name for feature in layer.features]
    if isinstance(layer, keras.layers.InputLayer):
        width = tensor.shape[-1]
        return [layer.name] if width == 1 else [f"{layer.name}[{i}]" for i in range(width or 0)]
    if isinstance(layer, (InteractingLayer, NumberEmbedding, SENET)):
        return _named(_first(layer))
    if isinstance(layer, keras.layers.Concatenate):
        parts = [_named(part) for part in _first(layer)]
        return None if None in parts else [name for part in parts for name in part or ()]
    return None


def _first(layer: Any) -> Any:
    """What a layer is called with: its first argument."""
    return compat.call_arguments(layer)[0][0]


def _history(layer: Any) -> str | None:
    """Name of the input whose padding a layer's mask leaves out."""
    mask = compat.call_argument(layer, "mask")
    masking = None if mask is None else compat.producer(mask)
    if not isinstance(masking, PaddingMask):
        return None
    source = compat.producer(_first(masking))
    return source.name if isinstance(source, keras.layers.InputLayer) else None


Axes = tuple[tuple[str, ...], ...]


def _pair_axis(layer: Any, shape: tuple[int, ...]) -> Axes:
    count = tuple(_first(layer).shape)[1]
    return (tuple(" x ".join(pair) for pair in combinations(_fields(_first(layer), count), 2)),)


def _field_axis(layer: Any, shape: tuple[int, ...]) -> Axes:
    return (_fields(_first(layer), shape[1]),)


def _head_axes(layer: Any, shape: tuple[int, ...]) -> Axes:
    fields = _fields(_first(layer), shape[2])
    return (tuple(f"head {i}" for i in range(shape[1])), fields, fields)


def _step_axis(layer: Any, shape: tuple[int, ...]) -> Axes:
    return (tuple(f"step {i}" for i in range(shape[1])),)


# By class: a model that has it, the argument by which it returns its weights, their axes' labels.
_KINDS: dict[type, tuple[str, str, Callable[[Any, tuple[int, ...]], Axes]]] = {
    AttentionalPooling: ("AFM", "return_weights", _pair_axis),
    SENET: ("FiBiNET", "return_weights", _field_axis),
    InteractingLayer: ("AutoInt", "return_attention_scores", _head_axes),
    TargetAttention: ("DIN", "return_weights", _step_axis),
    InterestEvolution: ("DIEN", "return_weights", _step_axis),
}
