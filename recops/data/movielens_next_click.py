"""The task of MovieLens 100K from sequence to sequence: the next clicks after the earlier ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recops.data.dataset import Dataset, Split
from recops.data.movielens import MovieLens

if TYPE_CHECKING:
    from recops.features import Feature

HELD_OUT = 5


@dataclass(frozen=True)
class Clicks:
    """Ids 1..size of the films that each user clicked, without the last, and of these last.

    Ids are those of films in `earlier`; a film that stands only in `last` is 0 there: no model
    that has never seen it can name it. `films` [size + 1] is what each id stands for.
    """

    users: np.ndarray
    earlier: list[np.ndarray]
    last: np.ndarray
    films: np.ndarray

    @property
    def size(self) -> int:
        return len(self.films) - 1


def next_click(data: MovieLens, max_length: int = 50, seed: int = 0) -> Dataset:
    """The task "next_click" of `movielens_100k` on any ratings in its form.

    A row has films that a user clicked (rated with 4 or 5) in order of time, those of one second in
    random order, and the films clicked next. Of each user with more than 10 clicks the last 5 are
    the test and the 5 before validation; others have no part in it. Inputs are

    - `source` [max_length]: the latest films, oldest first, then 0.
    - `target` [5]: a start (the id after those of the films) and the films that come next but for
      the last, then 0: what a decoder is given.
    - `item`: the film that comes next; 0 is a film that train does not have.
    - `seen_item`, no feature, of validation and test: all films clicked before, which are no
      candidates.

    Labels [5] are the films that come next, then 0: what a decoder is to say. In train every click
    but a user's first begins a row.

    Args:
      max_length: steps of `source`.
      seed: of the order within a second.
    """
    from recops.features import SequenceFeature, SparseFeature

    clicks = split(data, seed, 2 * HELD_OUT)
    start = clicks.size + 1
    source, target = windows(clicks, max_length)
    groups = np.repeat(clicks.users, [len(films) - 1 for films in clicks.earlier])
    train = Split({**_inputs(source, target)}, target[:, 1:], groups)

    def after(known: int) -> Split:
        """What each user clicks after as many of the films that are held out."""
        earlier = [
            np.append(films, last[:known]) for films, last in zip(clicks.earlier, clicks.last)
        ]
        following = clicks.last[:, known : known + HELD_OUT]
        target = np.pad(following, ((0, 0), (1, 0)), constant_values=start)
        source = padded([films[-max_length:] for films in earlier], max_length)
        seen = padded(earlier, max(map(len, earlier)))
        return Split({**_inputs(source, target), "seen_item": seen}, following, clicks.users)

    features: list[Feature] = [
        SparseFeature("item", clicks.size),
        SequenceFeature("source", clicks.size, max_length),
        SequenceFeature("target", start, HELD_OUT),
    ]
    values = {"item": clicks.films}
    return Dataset(train, after(0), after(HELD_OUT), features, task="next_click", values=values)


def _inputs(source: np.ndarray, target: np.ndarray) -> dict[str, np.ndarray]:
    return {"source": source, "target": target[:, :-1], "item": target[:, 1]}


def split(data: MovieLens, seed: int = 0, held_out: int = HELD_OUT) -> Clicks:
    """The last clicks of each user with more than `held_out` of them, and all before these."""
    rows = data.ratings[data.ratings[:, 2] >= 4]
    # Users clicked several films a second. Sorted by id within it, the next would be easy to tell.
    chance = np.random.default_rng(seed).permutation(len(rows))
    rows = rows[np.lexsort((chance, rows[:, 3], rows[:, 0]))]
    users, first = np.unique(rows[:, 0], return_index=True)
    lists = dict(zip(users, np.split(rows[:, 1], first[1:])))
    lists = {user: films for user, films in lists.items() if len(films) > held_out}
    if not lists:
        raise ValueError(f"next_click: no user has more than {held_out} clicks")
    known = np.unique(np.concatenate([films[:-held_out] for films in lists.values()]))

    def ids(films: np.ndarray) -> np.ndarray:
        place = np.minimum(np.searchsorted(known, films), len(known) - 1)
        return np.where(known[place] == films, place + 1, 0).astype(np.int32)

    return Clicks(
        np.array(list(lists)),
        [ids(films[:-held_out]) for films in lists.values()],
        np.stack([ids(films[-held_out:]) for films in lists.values()]),
        np.append(0, known),
    )


def windows(clicks: Clicks, length: int) -> tuple[np.ndarray, np.ndarray]:
    """To learn from: `length` films (fewer at first) and a start with the next HELD_OUT films."""

    def pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for films in clicks.earlier:
            for t in range(1, len(films)):
                yield films[max(0, t - length) : t], films[t : t + HELD_OUT]

    sources, targets = zip(*pairs())
    start = np.full((len(targets), 1), clicks.size + 1, np.int32)
    return padded(sources, length), np.concatenate([start, padded(targets, HELD_OUT)], axis=1)


def padded(lists: Sequence[np.ndarray], length: int) -> np.ndarray:
    """The lists as rows, 0 behind them."""
    out = np.zeros((len(lists), length), np.int32)
    for row, films in zip(out, lists):
        row[: len(films)] = films
    return out
