"""Numbers as percentiles of the training data, with square and root (YouTube's ranking)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Percentiles:
    """Distribution of a number, by which further numbers become percentiles.

    Args:
      quantiles: [Q] finite floats, ascending, Q of 2 or more: the values below which 0,
        1 / (Q - 1), ..., 1 of the data lie. They are all that has to be kept for serving.

    Raises: ValueError for fewer than two, descending or non-finite quantiles.

    Example:
      >>> train = Percentiles.fit([1.0, 2.0, 3.0, 5.0, 100.0])
      >>> train.transform([2.0, 4.0, 1e6]).tolist()
      [0.25, 0.625, 1.0]
      >>> again = Percentiles(train.quantiles)
    """

    quantiles: Sequence[float]

    def __post_init__(self) -> None:
        quantiles = np.asarray(self.quantiles, np.float64)
        if (
            quantiles.ndim != 1
            or len(quantiles) < 2
            or not np.isfinite(quantiles).all()
            or (np.diff(quantiles) < 0).any()
        ):
            raise ValueError(
                f"Percentiles: quantiles must be two or more finite numbers in ascending order, "
                f"got shape {list(quantiles.shape)}: {quantiles.ravel()[:5].tolist()}"
            )
        object.__setattr__(self, "quantiles", tuple(quantiles.tolist()))

    @classmethod
    def fit(cls, values: Any, num_quantiles: int = 1001) -> Percentiles:
        """The distribution of the training data.

        Args:
          values: [N] or [N, 1] numbers; NaN is left out.
          num_quantiles: how many quantiles are kept, at most; N where there are fewer values.

        Raises: ValueError for another shape, an infinite value, no value that is a number, or
          fewer than two quantiles.
        """
        known = _column("Percentiles.fit", values)
        known = known[~np.isnan(known)]
        if num_quantiles < 2:
            raise ValueError(
                f"Percentiles.fit: num_quantiles must be 2 or more, got {num_quantiles}"
            )
        if not len(known):
            raise ValueError("Percentiles.fit: needs at least one number that is not NaN, got none")
        if np.isinf(known).any():
            raise ValueError("Percentiles.fit: values must be finite or NaN, got an infinite one")
        levels = np.linspace(0, 1, max(2, min(num_quantiles, len(known))))
        # Interpolation may round a step down; the order is what counts.
        return cls(np.maximum.accumulate(np.quantile(known, levels)).tolist())

    def transform(self, values: Any) -> np.ndarray:
        """Percentiles of [N] or [N, 1] numbers: [N] float32 in 0..1.

        Between two quantiles they are interpolated, beyond the ends they are 0 or 1. A value that
        many examples share gets the middle of its range; NaN gets 0.5, as the median would.
        """
        given = _column("Percentiles.transform", values)
        quantiles = np.asarray(self.quantiles)
        levels = np.linspace(0, 1, len(quantiles))
        # Of equal quantiles `interp` takes the last; from the other side it takes the first.
        last = np.interp(given, quantiles, levels)
        first = 1 - np.interp(-given, -quantiles[::-1], levels)
        middle = np.where(np.isnan(given), 0.5, (first + last) / 2)
        # One value for all examples has no order.
        middle = np.where(given < quantiles[0], 0.0, np.where(given > quantiles[-1], 1.0, middle))
        return middle.astype(np.float32)


def percentile_features(values: Any, reference: Any = None) -> np.ndarray:
    """A number as YouTube's ranking model reads it: percentile x, x^2 and the root of x.

        x = share of the training data below the value, interpolated between its quantiles

    Scale and outliers are gone, and with the powers one layer can bend the curve both ways.

    Args:
      values: [N] or [N, 1] numbers; infinities lie beyond the ends, NaN is taken as the median.
      reference: the training data that x is the percentile in: numbers [N], or `Percentiles` fitted
        on them; None is `values` itself. Validation and test data need that of the training.

    Returns: [N, 3] float32 in 0..1, for a `DenseFeature` of dimension 3.

    Raises: ValueError for another shape, and as `Percentiles.fit`.

    Cost: a sort of the reference; a million numbers take a fraction of a second.

    Source: Covington et al., Deep Neural Networks for YouTube Recommendations, RecSys 2016,
    section 4.1.

    Example:
      >>> train = [1.0, 2.0, 3.0, 4.0, 100.0]
      >>> percentile_features([2.0, 100.0], reference=train).tolist()
      [[0.25, 0.0625, 0.5], [1.0, 1.0, 1.0]]
    """
    if reference is None:
        reference = values
    if not isinstance(reference, Percentiles):
        reference = Percentiles.fit(reference)
    x = reference.transform(values)
    return np.stack([x, np.square(x), np.sqrt(x)], axis=1)


def _column(what: str, values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "biuf":
        raise ValueError(
            f"{what}: values must be numbers of shape [N] or [N, 1], got {array.dtype} of shape "
            f"{list(array.shape)}"
        )
    return array.astype(np.float64)
