"""Swaps of the layers of Keras itself."""

from __future__ import annotations

from typing import Any

from recops import layers
from recops._core.compat import keras
from recops.accelerate.registry import Carried, Kept, Replacement, Swap, class_path
from recops.layers.base import build_child

# Keras 3 and the Keras 2 of TensorFlow 2.15, and tf_keras.
PACKAGES = ("keras", "tf_keras")
_GRU = "src.layers.rnn.gru.GRU"
_GRU_CELL = "src.layers.rnn.gru.GRUCell"
_LSTM = "src.layers.rnn.lstm.LSTM"
_NO_CELL = "recops has no op for its cell"


def is_keras(layer: Any, path: str) -> bool:
    """Whether a layer is of this very class of Keras; `path` is without the package."""
    return class_path(layer) in [f"{package}.{path}" for package in PACKAGES]


def one_to_one(new: Any, old: Any) -> list[Carried]:
    """The weights of a layer that has those of another, in their order."""
    return [Carried(n, (o,), lambda values: values[0]) for n, o in zip(new.weights, old.weights)]


def _sequences(shapes: Any) -> tuple[int | None, ...]:
    """The shape of the first argument, which Keras 2 calls `inputs`."""
    return next(iter(shapes.values())) if isinstance(shapes, dict) else shapes


def _gru(layer: Any, shapes: Any) -> Replacement:
    new = _fused(layer.get_config(), layer.stateful)
    build_child(new, _sequences(shapes))
    return Replacement(new, one_to_one(new, layer))


def _fused(config: dict[str, Any], stateful: bool) -> layers.GRU:
    """The GRU of a config, where its op can compute it."""
    if stateful:
        raise Kept("it keeps its state between batches, which the op does not")
    if config.get("time_major"):
        raise Kept("its inputs are [T, B, I]")
    new = layers.GRU.from_config(config)
    if not new.fused:
        raise Kept(
            "the op computes tanh and sigmoid without recurrent_dropout, and no dropout with "
            "implementation=1"
        )
    return new


def _rnn(layer: Any, shapes: Any) -> Replacement:
    if not is_keras(layer.cell, _GRU_CELL):
        raise Kept(f"{_NO_CELL}, a {type(layer.cell).__name__}")
    outer = layer.get_config()
    outer.pop("cell")
    inner = {k: v for k, v in layer.cell.get_config().items() if k not in ("name", "dtype")}
    new = _fused({**inner, **outer}, layer.stateful)
    build_child(new, _sequences(shapes))
    return Replacement(new, one_to_one(new, layer))


def _bidirectional(layer: Any, shapes: Any) -> Replacement:
    both = (layer.forward_layer, layer.backward_layer)
    if any(is_keras(each, _LSTM) for each in both):
        raise Kept("recops has no op for the cell of an LSTM; its BiLSTM runs Keras's as well")
    if not all(is_keras(each, _GRU) for each in both):
        names = {type(each).__name__ for each in both}
        raise Kept(f"{_NO_CELL}, a {' and a '.join(sorted(names))}")
    forward, backward = (_fused(each.get_config(), each.stateful) for each in both)
    new = keras.layers.Bidirectional(
        forward,
        backward_layer=backward,
        merge_mode=layer.merge_mode,
        name=layer.name,
        dtype=layer.dtype_policy if hasattr(layer, "dtype_policy") else layer.dtype,
    )
    build_child(new, _sequences(shapes))
    return Replacement(new, one_to_one(new, layer))


def _attention(layer: Any, shapes: Any) -> Replacement:
    new = layers.MultiHeadAttention.from_config(layer.get_config())
    new.build(shapes["query"], shapes["value"], shapes.get("key"))
    return Replacement(new, one_to_one(new, layer))


_KNOWN = {
    _GRU: ("recops.layers.GRU", _gru),
    "src.layers.rnn.rnn.RNN": ("recops.layers.GRU", _rnn),
    # Where Keras 2 keeps it.
    "src.layers.rnn.base_rnn.RNN": ("recops.layers.GRU", _rnn),
    "src.layers.rnn.bidirectional.Bidirectional": (
        "Bidirectional(recops.layers.GRU)",
        _bidirectional,
    ),
    "src.layers.attention.multi_head_attention.MultiHeadAttention": (
        "recops.layers.MultiHeadAttention",
        _attention,
    ),
}

SWAPS: tuple[Swap, ...] = tuple(
    Swap(f"{package}.{path}", now, replace)
    for package in PACKAGES
    for path, (now, replace) in _KNOWN.items()
)
