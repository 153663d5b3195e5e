"""What the swaps of all libraries share: reading a layer's options, and moving its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from recops._core import compat
from recops._core.compat import keras
from recops.accelerate.registry import Carried, Kept, Replacement

# Sums over single numbers, which do not see where in a weight a number stands.
_BY_NUMBER = (keras.regularizers.L1, keras.regularizers.L2, keras.regularizers.L1L2)


def options(layer: Any) -> dict[str, Any]:
    """The name and precision of a layer, for the one that takes its place."""
    return {"name": layer.name, "dtype": layer.dtype_policy}


def penalty(layer: Any, weights: Sequence[Any]) -> Any:
    """The regularizer that all these weights of a layer have, or None; rates of zero are none.

    Raises: Kept where they differ, or where one is no sum over single numbers.
    """
    found = [_penalty(layer, weight) for weight in weights]
    if any(_rates(one) != _rates(found[0]) for one in found):
        raise Kept("its weights have different regularizers")
    return found[0] if found else None


def _penalty(layer: Any, weight: Any) -> Any:
    regularizer = compat.regularizer_of(layer, weight)
    if regularizer is None or any(_rates(regularizer)):
        return regularizer
    return None


def _rates(regularizer: Any) -> tuple[float, float]:
    if regularizer is None:
        return (0.0, 0.0)
    if type(regularizer) not in _BY_NUMBER:
        raise Kept(
            f"a weight of it has the regularizer {type(regularizer).__name__}, which is no sum "
            f"over its numbers"
        )
    return float(getattr(regularizer, "l1", 0.0)), float(getattr(regularizer, "l2", 0.0))


def moved(new: Any, *old: Any, arrange: Callable[..., np.ndarray] = lambda value: value) -> Carried:
    """A weight and the old ones that it is made of; `arrange` takes their values one by one."""
    return Carried(new, old, lambda values: arrange(*values))


def replacement(old: Any, new: Any, carried: Sequence[Carried], inner: Any = None) -> Replacement:
    """A replacement whose weights are trained and penalised as those of the old layer.

    Args:
      inner: the layer that holds the new weights, where it is not `new` itself.

    Raises: Kept where they could not be.
    """
    if getattr(old, "activity_regularizer", None) is not None:
        raise Kept("it has an activity regularizer")
    new.trainable = old.trainable
    for weight, before, _ in carried:
        if any(getattr(one, "constraint", None) is not None for one in before):
            raise Kept("a weight of it has a constraint")
        if any(one.trainable != weight.trainable for one in before):
            raise Kept("only a part of its weights is trained")
        after = _rates(compat.regularizer_of(inner or new, weight))
        if any(_rates(compat.regularizer_of(old, one)) != after for one in before):
            raise Kept("its weights have different regularizers")
    return Replacement(new, carried)


def fields(shapes: Any, minimum: int = 2) -> tuple[Any, ...]:
    """[B, F, D] of an input of that shape, or of a list of inputs [B, 1, D].

    Raises: Kept for anything else.
    """
    if isinstance(shapes, (list, tuple)) and shapes and isinstance(shapes[0], (list, tuple)):
        each = {tuple(shape) for shape in shapes}
        if len(each) > 1 or len(shapes[0]) != 3 or shapes[0][1] != 1:
            raise Kept(f"its inputs are not all [B, 1, D] of one D: {sorted(map(str, each))}")
        shape = (shapes[0][0], len(shapes), shapes[0][2])
    else:
        shape = tuple(shapes)
    if len(shape) != 3 or None in shape[1:]:
        raise Kept(f"it needs fields and a width that are known beforehand, got {shape}")
    if shape[1] < minimum:
        raise Kept(f"it needs at least {minimum} fields, got {shape[1]}")
    return shape
