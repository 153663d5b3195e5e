"""What is swapped for what: the classes that are known by their path, and what each becomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


class Kept(Exception):
    """Raised by a swap: the layer stays, and this sentence is the reason in the report.

    Example:
      >>> def replace(layer, shapes):
      ...     if layer.stateful:
      ...         raise Kept("it keeps its state between batches")
    """


class Carried(NamedTuple):
    """A weight of the new layer, the weights of the old one that it is made of, and how.

    Args:
      new: the variable of the new layer.
      old: the variables of the old layer.
      arrange: their values, in the order of `old` -> the value of `new`. It moves numbers about and
        changes none (permute, transpose, reshape, stack, concatenate), so that the state of an
        optimizer is carried over by it too.
    """

    new: Any
    old: Sequence[Any]
    arrange: Callable[[Sequence[np.ndarray]], np.ndarray]


class Replacement(NamedTuple):
    """What stands in for a layer.

    Args:
      layer: built; takes the call arguments of the old layer and returns the same structure.
      carried: where the value of each of its weights comes from. A weight that is named in none
        keeps what it was made with.
    """

    layer: Any
    carried: Sequence[Carried]


@dataclass(frozen=True)
class Swap:
    """One class of layers and what it becomes.

    Args:
      path: module and qualified name of the class, exactly; a subclass is no match.
      now: the layer or op that it becomes, for the report.
      replace: (layer, structure of the shapes of the call's inputs) -> Replacement. Raises `Kept`
        where the layer has to stay.

    Example:
      >>> swap = Swap("my_package.layers.Pairs", "recops.layers.InnerProduct", lambda *_: None)
      >>> swap.path.rpartition(".")[2]
      'Pairs'
    """

    path: str
    now: str
    replace: Callable[[Any, Any], Replacement]


_SWAPS: dict[str, Swap] = {}


def register(swap: Swap) -> None:
    """Have `recops.accelerate` swap the layers of one more class; the last one of a path counts.

    Raises: TypeError for what is no `Swap`; ValueError for a path without a module.

    Example:
      >>> from recops.accelerate.registry import find, Swap, register
      >>> register(Swap("my_package.Pairs", "recops.layers.InnerProduct", lambda *_: None))
      >>> class Other:
      ...     pass
      >>> find(Other()) is None
      True
    """
    if not isinstance(swap, Swap):
        raise TypeError(f"register: expected a recops.accelerate.Swap, got {swap!r}")
    if not all(swap.path.rpartition(".")):
        raise ValueError(
            f"register: the path of a class has its module in it, as in 'package.module.Class', "
            f"got {swap.path!r}"
        )
    _SWAPS[swap.path] = swap


def find(layer: Any) -> Swap | None:
    """The swap of a layer's very class, or None."""
    return _SWAPS.get(class_path(layer))


def class_path(layer: Any) -> str:
    """Module and qualified name of the class of a layer: "keras.src.layers.rnn.gru.GRU"."""
    return f"{type(layer).__module__}.{type(layer).__qualname__}"
