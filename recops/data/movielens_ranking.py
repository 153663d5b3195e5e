"""The ranking task of MovieLens 100K: will the film be clicked."""

from __future__ import annotations

import numpy as np

from recops.data.dataset import Dataset, Split
from recops.data.movielens import GENRES, Item, MovieLens

# Where each group after the first begins. Groups, because single years have few users or films to
# learn from; test AUC is the same either way.
AGE_BOUNDS = (18, 25, 35, 45, 50, 56)
YEAR_BOUNDS = (1940, 1950, 1960, 1970, 1980, 1985, 1990, *range(1991, 1999))

_MOST_GENRES = 6

_TRAIN, _VALIDATION, _TEST = range(3)


def ranking(data: MovieLens, max_length: int = 0, seed: int = 0) -> Dataset:
    """The ranking task of `movielens_100k` on any ratings in its form."""
    from recops.features import SequenceFeature, SparseFeature

    user_id, item_id, rating, second = data.ratings.T
    part = split(data.ratings)
    train = part == _TRAIN
    users = _rows_of(user_id, [user.id for user in data.users])
    items = _rows_of(item_id, [item.id for item in data.items])
    year = np.array([item.year for item in data.items])[items]
    sparse = {
        "user": (user_id, train),
        "item": (item_id, train),
        "age": (np.digitize([user.age for user in data.users], AGE_BOUNDS)[users], train),
        "gender": (np.array([user.gender for user in data.users])[users], train),
        "occupation": (np.array([user.occupation for user in data.users])[users], train),
        "hour": (second // 3600 % 24, train),
        # Day 0 of Unix time was a Thursday.
        "weekday": ((second // 86400 + 3) % 7, train),
        "release_year": (
            np.where(year > 0, np.digitize(year, YEAR_BOUNDS), -1),
            train & (year > 0),
        ),
    }
    inputs: dict[str, np.ndarray] = {}
    features: list[SparseFeature | SequenceFeature] = []
    for name, (values, fit_on) in sparse.items():
        inputs[name], size = label(values, fit_on)
        features.append(SparseFeature(name, vocabulary_size=size))
    inputs["genres"], size = _genre_ids(data.items, items, train)
    features.append(SequenceFeature("genres", size, max_length=_MOST_GENRES, combiner="sum"))

    def take(which: int) -> Split:
        rows = part == which
        return Split(
            {name: values[rows] for name, values in inputs.items()},
            labels=rating[rows] >= 4,
            groups=user_id[rows],
        )

    return Dataset(take(_TRAIN), take(_VALIDATION), take(_TEST), features)


def split(ratings: np.ndarray) -> np.ndarray:
    """0, 1 or 2 (train, validation, test) for each row of ratings sorted as in `MovieLens`.

    Shares are rounded half up, so a user with one or two ratings has train rows only.
    """
    _, first, count = np.unique(ratings[:, 0], return_index=True, return_counts=True)
    from_end = np.repeat(first + count, count) - np.arange(len(ratings))
    size = np.repeat(count, count)
    test = (2 * size + 5) // 10
    validation = (size + 5) // 10
    return np.where(
        from_end <= test, _TEST, np.where(from_end <= test + validation, _VALIDATION, _TRAIN)
    )


def label(values: np.ndarray, fit_on: np.ndarray) -> tuple[np.ndarray, int]:
    """Ids [N] from 1 in order of value, 0 where `fit_on` has none such; and how many there are."""
    vocabulary = np.unique(values[fit_on])
    place = np.searchsorted(vocabulary, values)
    known = vocabulary[np.minimum(place, len(vocabulary) - 1)] == values
    return np.where(known, place + 1, 0).astype(np.int32), len(vocabulary)


def _genre_ids(
    catalogue: tuple[Item, ...], items: np.ndarray, train: np.ndarray
) -> tuple[np.ndarray, int]:
    table = np.zeros((len(catalogue), _MOST_GENRES), np.int32)
    for row, item in enumerate(catalogue):
        table[row, : len(item.genres)] = [GENRES.index(genre) + 1 for genre in item.genres]
    seen = np.unique(table[np.unique(items[train])])
    seen = seen[seen > 0]
    renumbered = np.zeros(len(GENRES) + 1, np.int32)
    renumbered[seen] = np.arange(1, len(seen) + 1)
    return renumbered[table][items], len(seen)


def _rows_of(ids: np.ndarray, table: list[int]) -> np.ndarray:
    # Tables are sorted by id and every rating's user and item was found in them when read.
    return np.searchsorted(np.array(table), ids)
