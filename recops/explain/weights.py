"""The weights of one layer, with what its axes stand for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Weights:
    """What one layer looked at.

    Args:
      layer: name of the layer's class.
      values: [B, ...] float32.
      axes: for each axis of `values` after the first, a label for each place.
      ids: [B, T], the ids at the steps, where time is the axis and the history is an input; 0 is
        padding.
      history: name of that input.
    """

    layer: str
    values: np.ndarray
    axes: tuple[tuple[str, ...], ...]
    ids: np.ndarray | None = None
    history: str | None = None
