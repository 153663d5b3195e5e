"""Small data sets of choices: who has watched one half of the films goes on with that half."""

from __future__ import annotations

import numpy as np

from recops.data import Dataset, Split
from recops.data.movielens import MovieLens
from recops.data.movielens_next_click import next_click as of_clicks
from recops.features import DenseFeature, SequenceFeature, SparseFeature

FILMS = 20
ITEM = SparseFeature("item", FILMS, 4)
WATCHED = SequenceFeature("watched", FILMS, 4, 4, target="item")
SEARCHED = SequenceFeature("searched", 6, 3, 4)
TOWN = SparseFeature("town", 5, 4)
AGE = DenseFeature("example_age")
FEATURES = [ITEM, WATCHED, SEARCHED, TOWN, AGE]


def choices(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Inputs: `watched` and `item` are odd for one half of the rows, even for the other."""
    rng = np.random.default_rng(seed)
    odd = rng.integers(0, 2, (rows, 1))
    kept = np.arange(4) < rng.integers(1, 5, (rows, 1))
    half = FILMS // 2 + 1
    return {
        "item": (2 * rng.integers(1, half, rows) - odd[:, 0]).astype(np.int32),
        "watched": np.where(kept, 2 * rng.integers(1, half, (rows, 4)) - odd, 0).astype(np.int32),
        "searched": rng.integers(0, 7, (rows, 3)).astype(np.int32),
        "town": rng.integers(0, 6, rows).astype(np.int32),
        "example_age": rng.random((rows, 1)).astype(np.float32),
    }


def retrieval() -> Dataset:
    """Each row is a user, from 500 on; film i is called 100 + i; films watched are seen."""
    parts = []
    for rows, seed in ((1600, 0), (90, 1), (90, 2), (30, 3)):
        inputs = choices(rows, seed)
        # Who goes on with a film that was watched already does not want it back.
        again = (inputs["watched"] == inputs["item"][:, None]).any(axis=1)
        inputs["watched"][again, :] = (inputs["item"][again, None] + 1) % FILMS + 1
        inputs["seen_item"] = inputs["watched"]
        parts.append(Split(inputs, np.ones(rows), 500 + np.arange(rows)))
    *parts, serving = parts
    values = {"item": np.append(0, 101 + np.arange(FILMS))}
    return Dataset(*parts, FEATURES, task="retrieval", serving=serving, values=values)


def leave_one_out() -> Dataset:
    """Users and films of one parity belong together; each list has one such film and 9 others."""
    rng = np.random.default_rng(0)
    parts = []
    for users in (240, 24, 24):
        user = np.repeat(np.arange(users) % 12 + 1, 10)
        item = 2 * rng.integers(1, FILMS // 2 + 1, len(user)) - (user + 1) % 2
        first = np.arange(len(user)) % 10 == 0
        item = np.where(first, 2 * rng.integers(1, FILMS // 2 + 1, len(user)) - user % 2, item)
        groups = np.repeat(np.arange(users), 10)
        parts.append(Split({"user": user, "item": item}, first, groups))
    return Dataset(*parts, [SparseFeature("user", 12), ITEM], task="leave_one_out")


def rings(clicks: int = 16, films: int = 11) -> MovieLens:
    """Users who click films one after the other round a ring, and one with two clicks only."""
    rows = [
        (user, 100 + (3 * user + t) % films, 4, 60 * t)
        for user in range(1, 25)
        for t in range(clicks)
    ]
    return MovieLens((), (), np.array([*rows, (99, 100, 5, 1), (99, 101, 1, 2)]))


def next_click() -> Dataset:
    """The clicks of `rings`: of each film the next one is always the same."""
    return of_clicks(rings(36, 48), max_length=8)
