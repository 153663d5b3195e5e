"""The Adult census data of UCI: 48,842 people, and whether each earns over 50,000 dollars a year.

R. Kohavi, "Scaling Up the Accuracy of Naive-Bayes Classifiers: a Decision-Tree Hybrid", 1996.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recops.data.dataset import Dataset
from recops.data.encoder import Encoder
from recops.data.factors import Factors
from recops.data.lines import Block, Lines
from recops.data.numeric import check_transform, transform
from recops.data.splits import a_tenth, check_task, divided
from recops.data.tables import ALL_TEST, Rows, Table, text_of

if TYPE_CHECKING:
    from recops.features import Feature

COLUMNS = (
    "age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation",
    "relationship", "race", "sex", "capital_gain", "capital_loss", "hours_per_week",
    "native_country", "income",
)  # fmt: skip
# How many people of the census a row stands for is no property of its person.
_WEIGHT = "fnlwgt"
_NUMBERS = ("age", "education_num", "capital_gain", "capital_loss", "hours_per_week")
_CATEGORIES = tuple(n for n in COLUMNS if n not in (*_NUMBERS, _WEIGHT, "income"))
_TENTH_IS_VALIDATION = (9, 1, 0)
_INCOME = {b"<=50K": 0, b">50K": 1, b"<=50K.": 0, b">50K.": 1}


def adult(
    path: str | os.PathLike[str],
    task: str = "ranking",
    *,
    numeric: str = "percentile",
    min_count: int = 1,
    seed: int = 0,
) -> Dataset:
    """Adult: the label is an income over 50,000 dollars. Encoded on its train split.

    A random tenth of adult.data is validation, the rest train; adult.test is the test. Features:
    8 categories (workclass, education, marital_status, ...) and 5 numbers (age, education_num,
    capital_gain, capital_loss, hours_per_week); `fnlwgt`, a weight of the sample, is left out. "?"
    is missing: id 0. All rows are one group.

    Args:
      path: a folder with adult.data and adult.test, or adult.data itself, the other beside it.
      task: "ranking", the only one.
      numeric: "percentile" (of the train rows) or "log" (sign(x) log(1 + |x|)).
      min_count: a category in fewer train rows gets id 0.
      seed: of the choice of validation rows.

    Defaults: task="ranking", numeric="percentile", min_count=1, seed=0.

    Returns: Dataset.

    Raises: recops.data.DataError for a file that is missing, empty, of another form or too short to
    be divided; ValueError for an unknown task or transform.

    Example:
      >>> data = adult("adult/")  # doctest: +SKIP
      >>> len(data.train), len(data.validation), len(data.test)  # doctest: +SKIP
      (29305, 3256, 16281)
    """
    from recops.features import DenseFeature

    check_task("adult", task)
    check_transform("adult", numeric)
    path = Path(path).expanduser()
    files = _files(path)
    read = [_read(file) for file in files]
    labels = np.concatenate([found for found, _, _ in read])
    numbers = np.concatenate([found for _, found, _ in read])
    cells = [[cell for _, _, c in read for cell in c[i]] for i in range(len(_CATEGORIES))]

    known = len(read[0][0])
    part = np.full(len(labels), 2, np.int8)
    part[:known] = 0
    tenth = a_tenth(f"adult: {files[0]}", known)
    part[np.random.default_rng(seed).permutation(known)[:tenth]] = 1
    train = part == 0
    columns = {name: Factors.of(name, _known(column)) for name, column in zip(_CATEGORIES, cells)}
    encoder = Encoder(min_count=min_count)
    encoder.fit({name: column[train] for name, column in columns.items()})
    inputs = encoder.transform(columns)
    for name, values in zip(_NUMBERS, numbers.T):
        inputs[name] = transform(values, train, numeric)
    features: list[Feature] = [*encoder.features(), *map(DenseFeature, _NUMBERS)]
    return divided(part, inputs, labels, np.zeros(len(labels)), features)


def table(path: Path, task: str = "ranking") -> Table:
    """The files as `encode` reads them."""
    check_task("adult", task)
    known, test = _files(path)
    files = [(known, _TENTH_IS_VALIDATION), (test, ALL_TEST)]
    return Table("adult", files, text_of("adult", _rows), numeric="percentile")


def _files(path: Path) -> tuple[Path, Path]:
    folder = path if path.is_dir() else path.parent
    return folder / "adult.data" if path.is_dir() else path, folder / "adult.test"


def _rows(lines: Lines) -> Iterator[Rows]:
    for block, labels, numbers in _blocks(lines):
        cells = {name: block.columns[COLUMNS.index(name)] for name in _CATEGORIES}
        yield Rows(
            block.numbers,
            labels,
            np.zeros(len(labels), np.int64),
            {name: Factors.of(name, _known(column)) for name, column in cells.items()},
            dense=dict(zip(_NUMBERS, numbers.T)),
        )


def _known(cells: list[bytes]) -> list[bytes | None]:
    return [None if cell == b"?" else cell for cell in cells]


def _blocks(lines: Lines) -> Iterator[tuple[Block, np.ndarray, np.ndarray]]:
    """The lines that fit, with their labels [n] and numbers [n, 5]."""
    # The test file begins with a remark.
    for block in lines.table(len(COLUMNS), b",", skip=lambda line: line.startswith(b"|")):
        for column in block.columns:
            column[:] = [cell.strip() for cell in column]
        income = lines.choices(block, COLUMNS.index("income"), "income", _INCOME)
        values, fit = lines.numbers(block, {name: COLUMNS.index(name) for name in _NUMBERS})
        rows = fit & (income >= 0)
        yield block.keep(rows), income[rows], values[rows]


def _read(path: Path) -> tuple[np.ndarray, np.ndarray, list[list[bytes]]]:
    """Labels [n], numbers [n, 5] and the cells of each category."""
    lines = Lines("adult", path)
    labels, numbers = [], []
    cells: list[list[bytes]] = [[] for _ in _CATEGORIES]
    for block, income, values in _blocks(lines):
        labels.append(income)
        numbers.append(values)
        for name, column in zip(_CATEGORIES, cells):
            column += block.columns[COLUMNS.index(name)]
    lines.close()
    return np.concatenate(labels), np.concatenate(numbers), cells
