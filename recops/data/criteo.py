"""Criteo's display advertising data: a week of shown ads, and whether each was clicked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recops.data.dataset import Dataset
from recops.data.encoder import Encoder
from recops.data.factors import Factorizer
from recops.data.lines import Block, Lines
from recops.data.numeric import check_transform, transform
from recops.data.splits import check_task, divided, ordered_parts, random_parts, single_file
from recops.data.tables import DIVIDED, Rows, Table, coded, text_of

if TYPE_CHECKING:
    from recops.features import Feature

NUMBERS = tuple(f"I{i}" for i in range(1, 14))
CATEGORIES = tuple(f"C{i}" for i in range(1, 27))
_WIDTH = 1 + len(NUMBERS) + len(CATEGORIES)
_CLICK = {b"0": 0, b"1": 1}
_SPLITS = {"random": random_parts, "time": ordered_parts}


def criteo(
    path: str | os.PathLike[str],
    task: str = "ranking",
    *,
    numeric: str = "log",
    split: str = "random",
    min_count: int = 10,
    seed: int = 0,
) -> Dataset:
    """Criteo's click logs (the Kaggle challenge, or its sample), encoded on the train split.

        label \\t I1 ... \\t I13 \\t C1 ... \\t C26        one ad a line, in order of time

    Features: 13 numbers I1..I13 and 26 categories C1..C26. An empty category is a value like the
    others; an empty number is 0 as a logarithm, 0.5 as a percentile. All rows are one group.

    Args:
      path: train.txt, gzipped or not (test.txt has no labels), or a folder with one file whose name
        holds "train".
      task: "ranking", the only one.
      numeric: "log" (sign(x) log(1 + |x|)) or "percentile" (of the train rows, 0..1).
      split: train, validation and test are 8 : 1 : 1. "random", as most papers have it; "time": in
        the order of the file, so that nothing is learnt from the future.
      min_count: a category in fewer train rows gets id 0.
      seed: of the random split.

    Defaults: task="ranking", numeric="log", split="random", min_count=10, seed=0.

    Returns: Dataset.

    Raises: recops.data.DataError for a file that is missing, empty, of another form or too short to
    be divided; ValueError for an unknown task, transform or split.

    Cost: four bytes a cell while reading, whatever the length of the text, and each distinct
    category once.

    Example:
      >>> data = criteo("criteo/train.txt.gz")  # doctest: +SKIP
    """
    from recops.features import DenseFeature

    check_task("criteo", task)
    check_transform("criteo", numeric)
    if split not in _SPLITS:
        raise ValueError(
            f"criteo: split must be one of {', '.join(map(repr, _SPLITS))}, got {split!r}"
        )
    path = Path(path).expanduser()
    labels, numbers, categories = _read(
        single_file("criteo", path, "train") if path.is_dir() else path
    )
    part = _SPLITS[split](f"criteo: {path}", len(labels), seed)
    train = part == 0
    columns = {name: column.factors() for name, column in zip(CATEGORIES, categories)}
    encoder = Encoder(min_count=min_count)
    encoder.fit({name: column[train] for name, column in columns.items()})
    inputs = encoder.transform(columns)
    for name, values in zip(NUMBERS, numbers.T):
        inputs[name] = transform(values, train, numeric)
    features: list[Feature] = [*encoder.features(), *map(DenseFeature, NUMBERS)]
    return divided(part, inputs, labels, np.zeros(len(labels)), features)


def table(path: Path, task: str = "ranking") -> Table:
    """The file as `encode` reads it."""
    check_task("criteo", task)
    file = single_file("criteo", path, "train") if path.is_dir() else path
    return Table("criteo", [(file, DIVIDED)], text_of("criteo", _rows), min_count=10)


def _rows(lines: Lines) -> Iterator[Rows]:
    for block, labels, numbers in _blocks(lines):
        cells = block.columns[1 + len(NUMBERS) :]
        yield Rows(
            block.numbers,
            labels,
            np.zeros(len(labels), np.int64),
            {name: coded(column) for name, column in zip(CATEGORIES, cells)},
            dense=dict(zip(NUMBERS, numbers.T)),
        )


def _blocks(lines: Lines) -> Iterator[tuple[Block, np.ndarray, np.ndarray]]:
    """The lines that fit, with their clicks [n] and numbers [n, 13]."""
    for block in lines.table(_WIDTH, b"\t"):
        click = lines.choices(block, 0, "label", _CLICK)
        values, fit = lines.numbers(block, {name: i for i, name in enumerate(NUMBERS, start=1)})
        rows = fit & (click >= 0)
        yield block.keep(rows), click[rows], values[rows]


def _read(path: Path) -> tuple[np.ndarray, np.ndarray, list[Factorizer]]:
    """Clicks [N], numbers [N, 13] and the categories, each cell four bytes as it is read."""
    lines = Lines("criteo", path)
    labels, numbers = [], []
    categories = [Factorizer() for _ in CATEGORIES]
    for block, clicks, values in _blocks(lines):
        labels.append(clicks)
        numbers.append(values)
        for column, cells in zip(categories, block.columns[1 + len(NUMBERS) :]):
            column.add(cells)
    lines.close()
    return np.concatenate(labels), np.concatenate(numbers), categories
