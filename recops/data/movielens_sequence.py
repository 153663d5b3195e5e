"""The sequence task of MovieLens 100K: what each user clicked before, as histories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recops.data.dataset import Dataset, Split
from recops.data.movielens import MovieLens
from recops.data.movielens_ranking import ranking, split
from recops.data.negatives import sample_negatives
from recops.data.sessions import split_sessions

SESSIONS = 5
SESSION_LENGTH = 10


def sequence(data: MovieLens, max_length: int = 50, seed: int = 0) -> Dataset:
    """The sequence task of `movielens_100k` on any ratings in its form.

    Rows, labels, encoding and features are those of the ranking task; to them come

    - `hist_item` [max_length]: the latest films that the user clicked before this row, oldest
      first, then 0. Before means at an earlier second: what shares the row's time is not known yet.
      Clicks of the validation and test parts count as soon as they are past, as they would when
      serving; films that train does not have are left out.
    - `neg_hist_item` [max_length]: for each of these a film that the user had not clicked by then,
      drawn by its clicks in train to the power 0.75.
    - `sess_item` [5, 10]: the same clicks in sessions, which half an hour without a click divides;
      the latest 5, oldest first, and the latest 10 clicks of each, then 0.

    The set was gathered as fast as people could rate the films that they were shown: three rows in
    four share their second with another of the user. That costs a history less than one click, for
    such bursts are short: train rows have 26 clicks behind them (median; 4.5 % have none), test
    rows 87 (0.05 %). It does leave few sessions: three users in four have clicks in at most two.
    """
    from recops.features import SequenceFeature, SparseFeature

    base = ranking(data)
    part = split(data.ratings)
    size = next(
        f.vocabulary_size
        for f in base.features
        if isinstance(f, SparseFeature) and f.name == "item"
    )
    # The films' ids, in the order of the ratings again.
    item = np.zeros(len(part), np.int32)
    for which, known in enumerate((base.train, base.validation, base.test)):
        item[part == which] = known.inputs["item"]
    clicked = (data.ratings[:, 2] >= 4) & (item > 0)
    earlier = Earlier.of(data.ratings, clicked, item)
    history = earlier.latest(max_length)
    longest = int((earlier.stop - earlier.start).max(initial=1))
    made = {
        "hist_item": history,
        "neg_hist_item": sample_negatives(
            history,
            vocabulary_size=size,
            counts=np.bincount(item[clicked & (part == 0)], minlength=size + 1),
            distortion=0.75,
            exclude=earlier.latest(longest),
            seed=seed,
        ),
        "sess_item": earlier.sessions(SESSIONS, SESSION_LENGTH),
    }

    def with_histories(which: int, known: Split) -> Split:
        rows = part == which
        more = {name: values[rows] for name, values in made.items()}
        return Split({**known.inputs, **more}, known.labels, known.groups)

    return Dataset(
        with_histories(0, base.train),
        with_histories(1, base.validation),
        with_histories(2, base.test),
        [
            *base.features,
            SequenceFeature("hist_item", size, max_length, target="item"),
            SequenceFeature("neg_hist_item", size, max_length, negative_of="hist_item"),
            SequenceFeature("sess_item", size, SESSION_LENGTH, target="item", sessions=SESSIONS),
        ],
    )


@dataclass(frozen=True)
class Earlier:
    """All clicks by user and time, and of each row which of them came before: start <= i < stop."""

    item: np.ndarray
    user: np.ndarray
    time: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    @classmethod
    def of(cls, ratings: np.ndarray, clicked: np.ndarray, item: np.ndarray) -> Earlier:
        """From ratings by user and time; `clicked` and `item` tell of each row."""
        user, time = ratings[:, 0], ratings[:, 3]
        before = np.cumsum(clicked) - clicked
        new_user = np.concatenate([[True], user[1:] != user[:-1]])[: len(user)]
        new_time = new_user | np.concatenate([[True], time[1:] != time[:-1]])[: len(user)]
        return cls(
            item[clicked],
            user[clicked],
            time[clicked],
            _held(before, new_user),
            # The row's own click, and all of the same second, are not before it.
            _held(before, new_time),
        )

    def latest(self, length: int) -> np.ndarray:
        """[N, length] ids of the latest earlier clicks, oldest first, then 0."""
        return self._ids(self.start, self.stop, length)

    def sessions(self, sessions: int, length: int, gap: float = 1800) -> np.ndarray:
        """[N, sessions, length] ids of the latest sessions, and of the latest clicks of each."""
        if not len(self.item):
            return np.zeros((len(self.start), sessions, length), self.item.dtype)
        number = split_sessions(self.time, gap, self.user)
        new = np.concatenate([[True], (number[1:] != number[:-1]) | (np.diff(self.user) != 0)])
        begin = np.flatnonzero(new)
        end = np.append(begin[1:], len(new))
        number = np.cumsum(new) - 1  # Over all users.
        some = self.stop > self.start
        first = number[np.where(some, self.start, 0)]
        last = np.where(some, number[self.stop - 1], -1)
        first = np.maximum(first, last - sessions + 1)
        chosen = first[:, None] + np.arange(sessions)
        within = chosen <= last[:, None]
        chosen = np.where(within, chosen, 0)
        # The last session goes on after this row.
        stop = np.minimum(end[chosen], self.stop[:, None])
        return self._ids(begin[chosen], np.where(within, stop, 0), length)

    def _ids(self, start: np.ndarray, stop: np.ndarray, length: int) -> np.ndarray:
        """Ids of the last `length` clicks of each stretch, then 0. [..., length]"""
        if not len(self.item):
            return np.zeros((*start.shape, length), self.item.dtype)
        first = np.maximum(start, stop - length)[..., None].astype(np.int32)
        place = first + np.arange(length, dtype=np.int32)
        return self.item.take(place, mode="clip") * (place < stop[..., None])


def _held(values: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Each value replaced by the one where its stretch began."""
    return values[np.flatnonzero(new)][np.cumsum(new) - 1]
