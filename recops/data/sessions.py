"""Sessions: a user's actions, cut where the user paused."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from recops.data.factors import group_codes


def split_sessions(
    times: ArrayLike, gap: float = 1800, groups: ArrayLike | None = None
) -> np.ndarray:
    """Session number of each action: a pause of `gap` or more begins a new session.

    Args:
      times: [N] integers or floats, seconds, ascending (within each user).
      gap: shortest pause between two sessions, in the unit of `times`; above 0.
      groups: [N], the user of each action, each user's actions side by side; None is one user.

    Defaults: gap=1800.

    Returns: [N] int64, from 0 for each user's first session.

    Raises: ValueError when times descend or are NaN, a group is missing, a user's actions lie
      apart, or shapes differ.

    Source: Feng et al., Deep Session Interest Network, IJCAI 2019, section 3.2, which takes 30
      minutes.

    Example:
      >>> split_sessions([0, 600, 2400, 2500, 9000])
      array([0, 0, 1, 1, 2])
      >>> split_sessions([0, 5000, 100], groups=["ann", "ann", "bob"])
      array([0, 1, 0])
    """
    times = np.asarray(times)
    if times.ndim != 1 or (times.size and not np.issubdtype(times.dtype, np.number)):
        raise ValueError(
            f"split_sessions: times must be numbers of shape [N], got {times.dtype} of shape "
            f"{list(times.shape)}"
        )
    if not gap > 0:
        raise ValueError(f"split_sessions: gap must be above 0, got {gap}")
    first = np.zeros(len(times), bool)
    first[:1] = True
    if groups is not None:
        first[1:] = _changes(group_codes("split_sessions", groups), len(times))
    # Compared, not subtracted: a difference of integers may not fit their type. Asked in this way,
    # NaN is no order either.
    wrong = np.flatnonzero(~(times[1:] >= times[:-1]) & ~first[1:])
    if len(wrong):
        at = wrong[0]
        raise ValueError(
            f"split_sessions: times must ascend{'' if groups is None else ' within each user'}, "
            f"got {times[at]} and then {times[at + 1]} at {at + 1}"
        )
    if times.dtype.kind == "f" and np.isnan(times).any():
        raise ValueError(
            f"split_sessions: times must be numbers, got NaN at {np.isnan(times).argmax()}"
        )
    # Unsigned, the difference of two ascending integers of 64 bits is right whatever they are.
    whole = times.dtype.kind in "iu"
    pause = np.diff(times.astype(np.int64).view(np.uint64) if whole else times)
    begun = np.cumsum(first | np.concatenate([[True], pause >= gap])[: len(times)])
    user = np.cumsum(first) - 1
    return begun - begun[np.flatnonzero(first)][user]


def _changes(groups: np.ndarray, size: int) -> np.ndarray:
    if groups.shape != (size,):
        raise ValueError(
            f"split_sessions: groups must have the shape of times, [{size}], got "
            f"{list(groups.shape)}"
        )
    changes = groups[1:] != groups[:-1]
    if size and len(np.unique(groups)) != np.count_nonzero(changes) + 1:
        raise ValueError(
            "split_sessions: each user's actions must lie side by side; sort them by user and time"
        )
    return changes
