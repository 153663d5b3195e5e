"""Named real shapes of an op: what tests and benches run it on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

TAGS = ("smoke", "test", "bench")


@dataclass(frozen=True)
class Case:
    """One op on one set of shapes.

    Args:
      op: name of the op in `recops.ops`.
      name: what the shapes are, e.g. "criteo_b4096".
      inputs: makes the array arguments by name, floats in float64 (a list of arrays for an argument
        that takes a list), from a random generator. Every float array that is not constant
        gets a gradient.
      options: the static keyword arguments.
      tags: "test" (small, compared with the oracle), "bench" (real size), "smoke" (a bench
        case small enough to run each time).
      flops: multiplications and additions of the formula and of its gradient.
      constant: names of arguments that get no gradient.
      updated: names of arguments that are variables where the op is timed, since it changes them
        where they stand.
      rows_read: for a table, the number of its rows that are read, and that get a gradient; all of
        an argument counts otherwise.
    """

    op: str
    name: str
    inputs: Callable[[np.random.Generator], Mapping[str, Any]]
    tags: frozenset[str]
    options: Mapping[str, Any] = field(default_factory=dict)
    flops: tuple[float, float] = (0.0, 0.0)
    rows_read: Mapping[str, int] = field(default_factory=dict)
    constant: frozenset[str] = frozenset()
    updated: frozenset[str] = frozenset()

    def arrays(self, dtype: str = "float64", seed: int = 0) -> dict[str, Any]:
        """The array arguments, floats rounded to `dtype`."""
        target = tf.as_dtype(dtype).as_numpy_dtype
        made = self.inputs(np.random.default_rng(seed))
        return {name: _cast(value, target) for name, value in made.items()}


def differentiated(arguments: Mapping[str, Any], constant: Collection[str]) -> list[Any]:
    """The float arrays or tensors among the arguments that get a gradient, in order of name."""
    values = tf.nest.flatten([v for name, v in sorted(arguments.items()) if name not in constant])
    return [value for value in values if tf.as_dtype(value.dtype).is_floating]


def _cast(value: Any, dtype: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_cast(item, dtype) for item in value]
    return value.astype(dtype) if value.dtype.kind == "f" else value


def tagged(*tags: str) -> frozenset[str]:
    """A set of known tags."""
    unknown = set(tags) - set(TAGS)
    if unknown:
        raise ValueError(f"tags must be among {', '.join(TAGS)}, got {', '.join(sorted(unknown))}")
    return frozenset(tags)


def select(cases: list[Case], tag: str, op: str | None = None) -> list[Case]:
    """The cases with a tag, of one op if it is given."""
    return [case for case in cases if tag in case.tags and op in (None, case.op)]
