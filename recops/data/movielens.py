"""MovieLens 100K: 100,000 real film ratings by 943 people, September 1997 to April 1998.

F. M. Harper and J. A. Konstan, "The MovieLens Datasets: History and Context", 2015.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from recops.data import sources
from recops.data.dataset import Dataset, Split
from recops.data.sources import DataError, Files

GENRES = (
    "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War",
    "Western",
)  # fmt: skip
_MOST_GENRES = 6
_COUNTS = {"ratings": 100_000, "users": 943, "items": 1_682}

_GROUPLENS = ("u.data", "u.item", "u.user")
_ATOMIC = ("ml-100k.inter", "ml-100k.item", "ml-100k.user")
_LAYOUTS = (_GROUPLENS, _ATOMIC)

_SHA256 = "22074c850fc564ef7ff34669bae6cbaf37d2d2c9e0f706e36652e09849e58dc6"
_ATOMIC_SHA256 = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
    "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
}

# Where each group after the first begins. Groups, because single years have few users or films to
# learn from; test AUC is the same either way.
AGE_BOUNDS = (18, 25, 35, 45, 50, 56)
YEAR_BOUNDS = (1940, 1950, 1960, 1970, 1980, 1985, 1990, *range(1991, 1999))

_TRAIN, _VALIDATION, _TEST = range(3)


class User(NamedTuple):
    """Who rated: `gender` is "M" or "F", `occupation` one of 21 words."""

    id: int
    age: int
    gender: str
    occupation: str


class Item(NamedTuple):
    """What was rated: `year` is 0 where the set gives none; `genres` may be empty."""

    id: int
    year: int
    genres: tuple[str, ...]


@dataclass(frozen=True)
class MovieLens:
    """The set as read. Ratings are rows (user, item, rating, Unix time), by user, time and item."""

    users: tuple[User, ...]
    items: tuple[Item, ...]
    ratings: np.ndarray


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
    return _retrieval(load(), max_length, seed, samples_per_user)


def load() -> MovieLens:
    """The whole set, from the first source that has it intact."""
    return _decode(sources.obtain(_recipe()))


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


def _sequence(data: MovieLens, max_length: int, seed: int) -> Dataset:
    # Imported late, since the other tasks stand on this module.
    from recops.data.movielens_sequence import sequence

    return sequence(data, max_length, seed)


def _retrieval(
    data: MovieLens, max_length: int, seed: int, samples_per_user: int | None = None
) -> Dataset:
    from recops.data.movielens_retrieval import retrieval

    return retrieval(data, max_length, seed, samples_per_user)


def _leave_one_out(data: MovieLens, max_length: int, seed: int) -> Dataset:
    from recops.data.movielens_retrieval import leave_one_out

    return leave_one_out(data, max_length, seed)


def _next_click(data: MovieLens, max_length: int, seed: int) -> Dataset:
    from recops.data.movielens_next_click import next_click

    return next_click(data, max_length, seed)


_TASKS: dict[str, Callable[[MovieLens, int, int], Dataset]] = {
    "ranking": ranking,
    "sequence": _sequence,
    "retrieval": _retrieval,
    "leave_one_out": _leave_one_out,
    "next_click": _next_click,
}


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


def parse(files: Files) -> MovieLens:
    """Raw files of either layout -> the set.

    Raises: DataError naming the file and line that does not fit.
    """
    layout = next((names for names in _LAYOUTS if files.keys() >= set(names)), None)
    if layout is None:
        raise DataError(f"expected {' or '.join(map(str, _LAYOUTS))}, got {sorted(files)}")
    grouplens = layout == _GROUPLENS
    rating_file, item_file, user_file = layout
    ratings = np.array(
        list(_parse(files, rating_file, "\t", 4, lambda row: [int(float(x)) for x in row])),
        np.int64,
    ).reshape(-1, 4)
    users = _parse(files, user_file, "|" if grouplens else "\t", 5, _user)
    if grouplens:
        items = _parse(files, item_file, "|", 6 + len(GENRES), _grouplens_item)
    else:
        items = _parse(files, item_file, "\t", 4, _atomic_item)
    data = MovieLens(
        tuple(sorted(users)),
        tuple(sorted(items)),
        ratings[np.lexsort((ratings[:, 1], ratings[:, 3], ratings[:, 0]))],
    )
    for column, table, file in ((0, data.users, user_file), (1, data.items, item_file)):
        strangers = np.setdiff1d(data.ratings[:, column], [entry.id for entry in table])
        if len(strangers):
            raise DataError(f"{rating_file} rates with id {strangers[0]}, which {file} lacks")
    return data


def _canonical(files: Files) -> bytes:
    data = parse(files)
    for what, count in _COUNTS.items():
        if len(getattr(data, what)) != count:
            raise DataError(f"holds {len(getattr(data, what))} {what}, the set has {count}")
    return _encode(data)


def _encode(data: MovieLens) -> bytes:
    plain = {"users": data.users, "items": data.items, "ratings": data.ratings.tolist()}
    return json.dumps(plain, separators=(",", ":")).encode("ascii")


def _decode(canonical: bytes) -> MovieLens:
    plain = json.loads(canonical)
    return MovieLens(
        tuple(User(*fields) for fields in plain["users"]),
        tuple(Item(id, year, tuple(genres)) for id, year, genres in plain["items"]),
        np.array(plain["ratings"], np.int64).reshape(-1, 4),
    )


def _parse(
    files: Files, name: str, separator: str, width: int, entry: Callable[[list[str]], Any]
) -> Iterator[Any]:
    # Latin-1 reads any byte, and the fields in use are ASCII in both layouts. Bytes are split into
    # lines, because str.splitlines would also split at control characters within a title.
    for number, line in enumerate(files[name].splitlines(), start=1):
        if name in _ATOMIC and number == 1:
            continue
        fields = line.decode("latin-1").split(separator)
        try:
            if len(fields) != width:
                raise ValueError(f"expected {width} fields, got {len(fields)}")
            parsed = entry(fields)
        except (ValueError, OverflowError) as error:
            raise DataError(f"{name} line {number}: {error}") from None
        yield parsed


def _user(fields: list[str]) -> User:
    return User(int(fields[0]), int(fields[1]), fields[2], fields[3])


def _grouplens_item(fields: list[str]) -> Item:
    # The first flag stands for "unknown", which is no genre.
    flags = fields[6:]
    return Item(
        int(fields[0]),
        _year(fields[1]),
        tuple(genre for genre, flag in zip(GENRES, flags) if flag == "1"),
    )


def _atomic_item(fields: list[str]) -> Item:
    id, title, year, genres = fields
    named = set(genres.split()) - {"unknown"}
    if strangers := named.difference(GENRES):
        raise ValueError(f"unknown genre {min(strangers)!r}")
    # One film's year column holds the "(V)" of its title, and the title still has the year.
    return Item(int(id), _year(f"{title} ({year})"), tuple(g for g in GENRES if g in named))


def _year(title: str) -> int:
    # The year in the title, not the release date, because only the title's is in both layouts.
    found = re.findall(r"\((\d{4})\)", title)
    return int(found[-1]) if found else 0


@cache
def _recipe() -> sources.Recipe:
    grouplens = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
    return sources.Recipe(
        name="ml-100k",
        layouts=_LAYOUTS,
        canonical=_canonical,
        sha256=_SHA256,
        downloads=(
            sources.download(grouplens, _LAYOUTS, "4.9 MB"),
            sources.wheel("recbole==1.2.1", _ATOMIC_SHA256, "2.1 MB"),
        ),
    )
