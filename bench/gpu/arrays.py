"""What of a program's inputs and results goes from where it is lowered to where it is run.

Floats of real sizes would take gigabytes. Inputs go as their ranges and are drawn again; results
as sums with random signs, from which the size of an error can be told but not where it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

SUMS = 4
# What of a line of the index is no part of a row of results.
TRAVELS = ("inputs", "features", "fed", "carried", "expected")


def dtype_of(name: str) -> np.dtype[Any]:
    """A NumPy dtype by name, bfloat16 among them."""
    return np.dtype(getattr(ml_dtypes, name, name))


def floating(array: np.ndarray) -> bool:
    """Whether an array is of floats, of 16 bits among them."""
    return array.dtype.name == "bfloat16" or np.issubdtype(array.dtype, np.floating)


def described(array: np.ndarray) -> dict[str, Any]:
    """Type and shape of an array, and of floats the range to draw them from."""
    facts: dict[str, Any] = {"dtype": array.dtype.name, "shape": list(array.shape)}
    if floating(array):
        wide = array.astype(np.float64)
        facts |= {"mean": wide.mean(), "std": wide.std(), "min": wide.min(), "max": wide.max()}
    return facts


def drawn(inputs: Sequence[dict[str, Any]], exact: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The inputs that were described; `exact` has those that are not drawn, by their place."""
    rng = np.random.default_rng(0)
    arrays = []
    for i, facts in enumerate(inputs):
        dtype = dtype_of(facts["dtype"])
        if str(i) in exact:
            arrays.append(exact[str(i)].view(dtype))
            continue
        values = rng.normal(facts["mean"], facts["std"], facts["shape"])
        arrays.append(np.clip(values, facts["min"], facts["max"]).astype(dtype))
    return arrays


def signed_sums(array: np.ndarray) -> list[float]:
    """Sums of all elements, each with a random sign: of an error its 2-norm times a normal one."""
    flat = np.asarray(array).astype(np.float64).ravel()
    return [float(signs @ flat) for signs in _signs(flat.size)]


def _signs(size: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(1)
    for _ in range(SUMS):
        yield rng.integers(0, 2, size, np.int8).astype(np.float64) * 2 - 1
