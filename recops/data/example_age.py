"""The age of an example: how long before the end of training it happened."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def example_age(
    times: ArrayLike, latest: float | None = None, scale: float | None = None
) -> np.ndarray:
    """Age of each training example, a feature that lets a model learn that tastes change.

        (latest - time) / scale

    Without it a model predicts what was liked on average over the weeks of training; with it, and 0
    given when serving, what is liked at their end.

    Args:
      times: of the examples, numbers of any shape, such as Unix seconds.
      latest: time of the last training example; None is the largest of `times`.
      scale: one unit of age in the unit of `times`; None is the span of `times`, so that the ages
        of training examples are 0 to 1.

    Returns: float32 in the shape of `times`. What is later than `latest` has a negative age.

    Raises: ValueError when times or `latest` are not finite, or scale is not above 0.

    Source: Covington et al., Deep Neural Networks for YouTube Recommendations, RecSys 2016,
      section 3.3.

    Example:
      >>> example_age([100, 150, 200])
      array([1. , 0.5, 0. ], dtype=float32)
    """
    found = np.asarray(times)
    if found.dtype.kind not in "iuf" or not np.isfinite(found).all():
        raise ValueError(f"example_age: times must be finite numbers, got dtype {found.dtype}")
    if not found.size:
        return np.zeros(found.shape, np.float32)
    # Unix seconds do not fit float32: the difference is taken first.
    found = found.astype(np.float64)
    end = found.max() if latest is None else latest
    if not np.isfinite(end):
        raise ValueError(f"example_age: latest must be finite, got {end}")
    if scale is None:
        # Examples of one moment have one age, whatever the unit.
        scale = float(found.max() - found.min()) or 1.0
    if not 0 < scale < np.inf:
        raise ValueError(f"example_age: scale must be above 0, got {scale}")
    return ((end - found) / scale).astype(np.float32)
