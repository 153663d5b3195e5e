"""Sampled negatives: what a user did not choose, drawn at random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

# After so many rounds of drawing anew, what still hits an excluded id is drawn from the allowed ids
# alone, which has the same distribution and costs a pass over the vocabulary a row.
_ROUNDS = 20


def sample_negatives(
    positives: ArrayLike,
    *,
    vocabulary_size: int,
    counts: ArrayLike | None = None,
    distortion: float = 0.75,
    exclude: ArrayLike | None = None,
    seed: int | Sequence[int] = 0,
) -> np.ndarray:
    """For each positive id another id, drawn independently of all others.

        p(j) ~ counts[j] ** distortion    over 1 <= j <= V, but the positive and what is excluded

    Args:
      positives: ids 0..V of any shape. 0 is padding.
      vocabulary_size: number of real ids V.
      counts: [V + 1], how often each id occurs, entry 0 ignored; an id that never occurs is never
        drawn. None draws all ids alike.
      distortion: 1 draws as often as an id occurs, 0 all ids that occur alike.
      exclude: [len(positives), E], ids that no draw of that row returns; 0 stands for none.
      seed: the same seed and arguments give the same ids; an integer of 0 or more, or several.

    Defaults: distortion=0.75, seed=0.

    Returns: shape and dtype of `positives`, or a wider one that can hold V; 0 where that is 0,
      else an id of 1..V.

    Raises: ValueError for an id outside 0..V, counts that are no counts, a distortion that is not
      finite or makes them overflow, or a row for which no id is left.

    Cost: a million draws take well under a second without `exclude`; with it, the excluded ids are
    sorted once.

    Source: the distortion of 0.75 is that of Mikolov et al., NIPS 2013, section 2.2.

    Example:
      >>> sample_negatives([[1, 2, 0], [2, 2, 1]], vocabulary_size=2)
      array([[2, 1, 0],
             [1, 1, 2]])
    """
    positives = _ids("positives", positives, vocabulary_size)
    weights = _weights(vocabulary_size, counts, distortion)
    kept = np.flatnonzero(positives)
    own = positives.ravel()[kept].astype(np.int64)
    row = kept // max(1, int(np.prod(positives.shape[1:], dtype=np.int64)))
    forbidden = np.zeros(0, np.int64)
    if exclude is not None:
        forbidden = _keys(_ids("exclude", exclude, vocabulary_size), len(positives), len(weights))
    random = np.random.default_rng(seed)
    drawn = np.zeros(len(own), np.int64)
    # What hits an excluded id is drawn again.
    rest = np.arange(len(own))
    for _ in range(_ROUNDS):
        drawn[rest] = _draw(random, weights, own[rest], row[rest])
        hit = _among(row[rest] * len(weights) + drawn[rest], forbidden)
        rest = rest[hit]
        if not len(rest):
            break
    for one in np.unique(row[rest]):
        allowed = weights.copy()
        start, stop = np.searchsorted(forbidden, [one * len(weights), (one + 1) * len(weights)])
        allowed[forbidden[start:stop] - one * len(weights)] = 0
        here = rest[row[rest] == one]
        drawn[here] = _draw(random, allowed, own[here], row[here])
    dtype = positives.dtype
    if vocabulary_size > np.iinfo(dtype).max:
        # Negatives of narrow positives may be any id.
        dtype = np.promote_types(dtype, np.min_scalar_type(vocabulary_size))
    out = np.zeros(positives.size, dtype)
    out[kept] = drawn
    return out.reshape(positives.shape)


def _draw(
    random: np.random.Generator, weights: np.ndarray, own: np.ndarray, row: np.ndarray
) -> np.ndarray:
    """An id for each of `own`, drawn by weight from all others."""
    stuck = np.flatnonzero(np.count_nonzero(weights) == (weights[own] > 0))
    if len(stuck):
        raise ValueError(
            f"sample_negatives: no id is left to draw in row {row[stuck[0]]}: each is the positive "
            f"{own[stuck[0]]}, excluded, or never occurs"
        )
    # The weights before the positive are summed from the first on, those behind it from the last
    # back: no sum holds its own, which may be so large that it would round the others off.
    ends, tails = np.cumsum(weights), np.cumsum(weights[::-1])
    behind = len(weights) - 2 - own
    left, right = ends[own - 1], np.where(behind < 0, 0, tails[behind])
    point = random.random(len(own)) * (left + right)
    # "right" and "left" pass over what has no weight; rounding may give an end, which is beyond.
    before = (right == 0) | (point < left)
    inside = np.minimum(point, np.nextafter(left, 0))[before]
    from_end = np.clip(left + right - point, np.nextafter(0, 1), right)[~before]
    drawn = np.empty(len(own), np.int64)
    drawn[before] = np.searchsorted(ends, inside, side="right")
    drawn[~before] = len(weights) - 1 - np.searchsorted(tails, from_end, side="left")
    return drawn


def _among(keys: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    if not len(ordered):
        return np.zeros(len(keys), bool)
    place = np.searchsorted(ordered, keys)
    return ordered[np.minimum(place, len(ordered) - 1)] == keys


def _keys(exclude: np.ndarray, rows: int, width: int) -> np.ndarray:
    """Row and id of each excluded id as one number, ascending."""
    if exclude.ndim != 2 or len(exclude) != rows:
        raise ValueError(
            f"sample_negatives: exclude must have the shape [{rows}, E], got {list(exclude.shape)}"
        )
    row, column = np.nonzero(exclude)
    return np.sort(row * width + exclude[row, column].astype(np.int64))


def _ids(name: str, values: ArrayLike, vocabulary_size: int) -> np.ndarray:
    if vocabulary_size < 1:
        raise ValueError(
            f"sample_negatives: vocabulary_size must be 1 or more, got {vocabulary_size}"
        )
    ids = np.asarray(values)
    if ids.size == 0:
        ids = ids.astype(ids.dtype if np.issubdtype(ids.dtype, np.integer) else np.int64)
    if ids.ndim < 1 or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(
            f"sample_negatives: {name} must be integers with an axis of rows, got {ids.dtype} of "
            f"shape {list(ids.shape)}"
        )
    for bad in (int(ids.min(initial=0)), int(ids.max(initial=0))):
        if not 0 <= bad <= vocabulary_size:
            raise ValueError(
                f"sample_negatives: {name} has the id {bad}, which is outside 0..{vocabulary_size}"
            )
    return ids


def _weights(vocabulary_size: int, counts: ArrayLike | None, distortion: float) -> np.ndarray:
    """[V + 1] relative probability of each id; that of 0 is 0."""
    weights = np.ones(vocabulary_size + 1)
    if not np.isfinite(distortion):
        raise ValueError(f"sample_negatives: distortion must be finite, got {distortion}")
    if counts is not None:
        weights = np.array(counts, np.float64)
        if weights.shape != (vocabulary_size + 1,):
            raise ValueError(
                f"sample_negatives: counts must have one entry for each id 0..{vocabulary_size}, "
                f"got shape {list(weights.shape)}"
            )
        if not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise ValueError("sample_negatives: counts must be finite and 0 or more")
        with np.errstate(over="ignore"):
            weights = np.where(weights > 0, weights, 1) ** distortion * (weights > 0)
            total = weights.sum()
        if not np.isfinite(total):
            raise ValueError(
                f"sample_negatives: counts up to {np.max(counts)} ** {distortion} overflow; give "
                f"a distortion nearer to 0"
            )
    weights[0] = 0
    return weights
