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
from recops.data.sources import DataError, Files

GENRES = (
    "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War",
    "Western",
)  # fmt: skip
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


def load() -> MovieLens:
    """The whole set, from the first source that has it intact."""
    return _decode(sources.obtain(_recipe()))


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
