"""Numbers of heavy tails for a network: their logarithm, or their percentile in the train rows."""

from __future__ import annotations

import numpy as np

from recops.data.percentile import Percentiles

TRANSFORMS = ("log", "percentile")


def check_transform(reader: str, numeric: str) -> None:
    """Raise ValueError when there is no transform of this name."""
    if numeric not in TRANSFORMS:
        raise ValueError(
            f"{reader}: numeric must be one of {', '.join(map(repr, TRANSFORMS))}, got {numeric!r}"
        )


def transform(values: np.ndarray, train: np.ndarray, numeric: str) -> np.ndarray:
    """A column [N], NaN where a number is missing, made ready: [N] float32.

    log: sign(x) log(1 + |x|), 0 where missing. percentile: 0..1 in the distribution of the train
    rows, 0.5 where missing.
    """
    if numeric == "log":
        return np.nan_to_num(np.sign(values) * np.log1p(np.abs(values))).astype(np.float32)
    if np.isnan(values[train]).all():
        return np.full(len(values), 0.5, np.float32)
    return Percentiles.fit(values[train]).transform(values)
