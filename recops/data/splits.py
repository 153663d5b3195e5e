"""What readers of a user's own files share: their tasks, which file is which, the split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recops.data.dataset import Dataset, Split
from recops.data.sources import DataError

if TYPE_CHECKING:
    from recops.features import Feature


def check_task(reader: str, task: str, tasks: tuple[str, ...] = ("ranking",)) -> None:
    """Raise ValueError when a data set lacks a task."""
    if task not in tasks:
        has = ", ".join(map(repr, tasks))
        raise ValueError(
            f"{reader}: the data set has no task {task!r}, only {has}; choose a model for that "
            f"(see `recops models`)"
        )


def a_tenth(where: str, rows: int) -> int:
    """A tenth of the rows, rounded down; DataError when that is none. `where` is for messages."""
    if rows < 10:
        raise DataError(
            f"{where}: of {rows} rows no tenth can be held out for validation; give 10 or more"
        )
    return rows // 10


def random_parts(where: str, rows: int, seed: int) -> np.ndarray:
    """[rows] 0, 1 or 2 (train, validation, test): 8 : 1 : 1, at random."""
    tenth = a_tenth(where, rows)
    part = np.zeros(rows, np.int8)
    part[:tenth], part[tenth : 2 * tenth] = 1, 2
    return np.random.default_rng(seed).permutation(part)


def ordered_parts(where: str, rows: int, seed: int = 0) -> np.ndarray:
    """[rows] as `random_parts`, in the order of the rows."""
    tenth = a_tenth(where, rows)
    return np.repeat(np.array([0, 1, 2], np.int8), [rows - 2 * tenth, tenth, tenth])


def single_file(reader: str, folder: Path, what: str) -> Path:
    """The only file of a folder whose name holds a word, or DataError."""
    found = sorted(
        path for path in folder.iterdir() if path.is_file() and what in path.name.lower()
    )
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(f"{reader}: {folder} should hold one {what} file, found {names}")
    return found[0]


def divided(
    part: np.ndarray,
    inputs: Mapping[str, np.ndarray],
    labels: np.ndarray,
    groups: np.ndarray,
    features: Sequence[Feature],
) -> Dataset:
    """The data set whose split of each row is 0, 1 or 2 in `part`."""

    def take(which: int) -> Split:
        rows = part == which
        return Split({n: v[rows] for n, v in inputs.items()}, labels[rows], groups[rows])

    return Dataset(take(0), take(1), take(2), features)
