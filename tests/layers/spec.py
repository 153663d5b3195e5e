"""What a spec of a layer is, and inputs that several of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

B, F, D = 6, 4, 3


@dataclass(frozen=True)
class Spec:
    """A layer with given arguments.

    Args:
      name: unique, lower case.
      make: keyword arguments of every layer -> a new layer.
      inputs: random generator -> an array or a dict of arrays, batch first.
      expected: (built layer, inputs) -> the same result without the layer.
      masked: (layer, inputs, mask [B, n]) -> result; None where a mask has no meaning.
      call: (layer, inputs) -> result, for a layer that takes several arguments.
      runs_op: whether an op of recops runs in it.
      wide: whether its results are float32 whatever the policy.
    """

    name: str
    make: Callable[..., Any]
    inputs: Callable[[np.random.Generator], Any]
    expected: Callable[[Any, Any], Any]
    masked: Callable[[Any, Any, Any], Any] | None = None
    call: Callable[[Any, Any], Any] = lambda layer, x: layer(x)
    runs_op: bool = True
    wide: bool = False


def floats(*shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    """Normal numbers [B, *shape]."""
    return lambda rng: rng.normal(size=(B, *shape)).astype(np.float32)


def ids(rng: np.random.Generator, size: int, *shape: int) -> np.ndarray:
    """Ids 0..size, [B, *shape]."""
    return rng.integers(0, size + 1, size=(B, *shape)).astype(np.int32)


def call_masked(layer: Any, x: Any, mask: Any) -> Any:
    """A masked call of most layers."""
    return layer(x, mask=mask)
