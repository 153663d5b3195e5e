"""The calls of a functional model, and several of them that one layer can stand in for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import tensorflow as tf

from recops._core import compat
from recops._core.compat import Node
from recops.accelerate.registry import Replacement


class Call(NamedTuple):
    """A call of the layer that stands in: symbolic arguments and results of the stock model."""

    args: tuple[Any, ...]
    outputs: Sequence[Any]


@dataclass(frozen=True)
class Pattern:
    """Several layers of one graph that become one.

    Args:
      layers: those that go.
      nodes: their calls.
      calls: what is called in their place.
      was, now: for the report.
      replace: () -> Replacement.
    """

    layers: tuple[Any, ...]
    nodes: tuple[Node, ...]
    calls: tuple[Call, ...]
    was: str
    now: str
    replace: Callable[[], Replacement]

    @property
    def name(self) -> str:
        """Of its layers, the first ones."""
        names = [layer.name for layer in self.layers]
        more = f" and {len(names) - 3} more" if len(names) > 4 else ""
        return ", ".join(names[:3] if more else names) + more


@dataclass
class Graph:
    """The calls of a functional model, by layer and by what they read."""

    model: Any
    nodes: list[Node] = field(init=False)
    outputs: set[int] = field(init=False)

    def __post_init__(self) -> None:
        self.nodes = compat.nodes_of(self.model)
        self.outputs = {id(t) for t in tf.nest.flatten(compat.ends_of(self.model)[1])}

    def calls_of(self, layer: Any) -> list[Node]:
        """The calls of a layer in this graph."""
        return [node for node in self.nodes if node.layer is layer]

    def readers(self, tensor: Any) -> list[Node]:
        """The calls that take a symbolic tensor."""
        return [node for node in self.nodes if any(tensor is each for each in read(node))]

    def is_output(self, tensor: Any) -> bool:
        """Whether the model returns a symbolic tensor."""
        return id(tensor) in self.outputs

    def is_input(self, tensor: Any) -> bool:
        """Whether a symbolic tensor is an input of the model."""
        return any(tensor is each for each in tf.nest.flatten(compat.ends_of(self.model)[0]))


def read(node: Node) -> list[Any]:
    """The symbolic tensors that a call takes."""
    return [t for t in tf.nest.flatten((node.args, node.kwargs)) if compat.is_symbolic(t)]


def only_argument(node: Node) -> Any:
    """The one symbolic tensor that a call takes, beside the mask that comes with it, or None."""
    first = node.args[0] if len(node.args) == 1 else None
    carried = getattr(first, "_keras_mask", None)
    others = [t for t in read(node) if t is not first and (carried is None or t is not carried)]
    return first if compat.is_symbolic(first) and not others else None


def shapes_of_call(call: Callable[..., Any], args: Iterable[Any], kwargs: dict[str, Any]) -> Any:
    """The shapes of a call: of its argument, or of each by name where there are several.

    Masks do not count. The batch size is left open, as it is in a graph.
    """
    given = inspect.signature(call).bind(*args, **kwargs).arguments
    shaped = {}
    for name, value in given.items():
        values = [v for v in tf.nest.flatten(value) if v is not None]
        if name.endswith("mask"):
            continue
        if values and all(hasattr(v, "shape") for v in values):
            shaped[name] = tf.nest.map_structure(_open_shape, value)
    return next(iter(shaped.values())) if len(shaped) == 1 else shaped


def _open_shape(tensor: Any) -> tuple[int | None, ...] | None:
    return None if tensor is None else (None, *tuple(tf.TensorShape(tensor.shape))[1:])
