"""Data sets in the text formats of libFM and libFFM, which most public CTR benchmarks come in."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recops.data.dataset import Dataset
from recops.data.encoder import Encoder
from recops.data.factors import Factorizer
from recops.data.lines import Lines
from recops.data.sources import DataError
from recops.data.splits import check_task, divided, random_parts, single_file
from recops.data.tables import (
    ALL_TEST,
    ALL_TRAIN,
    ALL_VALIDATION,
    DIVIDED,
    Rows,
    Table,
    coded,
    text_of,
)

if TYPE_CHECKING:
    from recops.features import Feature

# So many lines tell the form of a file, whatever the very first one is.
_FIRST = 100
_PARTS = ("train", "valid", "test")

Fields = Sequence[str] | Mapping[str, tuple[int, int]] | None


def libfm(
    path: str | os.PathLike[str],
    fields: Fields = None,
    task: str = "ranking",
    *,
    threshold: float = 0,
    min_count: int = 1,
    group: str = "user",
    seed: int = 0,
) -> Dataset:
    """A data set in libFM or libFFM text, encoded on its train split.

        1 451:1 4149:1 5041:1           label index:value ...        (libFM)
        1 0:451:1 1:4149:1 2:5041:1     label field:index:value ...  (libFFM)

    Of each field comes a feature. It is sparse where a line has one index of it; a sequence, pooled
    by its sum, where lines have several; dense where all lines have the same index and the value
    tells (and 0 where a line lacks it). `#` and what follows is a comment.

    Args:
      path: a file, of which a random tenth each becomes validation and test; or a folder with one
        file each whose name holds "train", "valid" and "test". gzip is read too.
      fields: what the entries of a line are.
        names: of the first entry, the second and so on (libFM), or of the fields by ascending
        number (libFFM).
        {name: (first, last)}: the indices, both included, that belong to a field (libFM), or the
        numbers of the field (libFFM).
        None names the entries field_0, field_1, ... by place (libFM) or number (libFFM).
      task: "ranking", the only one.
      threshold: a label above it is a click. 0 suits labels of 0 and 1, -1 and 1; ratings need 3.
      min_count: an index in fewer train rows gets id 0.
      group: the field that GAUC groups by, where there is one of this name.
      seed: of the random split.

    Defaults: task="ranking", threshold=0, min_count=1, group="user", seed=0.

    Returns: Dataset.

    Raises: recops.data.DataError for a file that is missing, empty, of another form or too short to
    be divided; ValueError for an unknown task, or fields that do not fit or overlap.

    Source: Rendle, Factorization Machines with libFM, 2012; Juan et al., libffm.

    Example:
      >>> data = libfm("frappe/", fields=["user", "item"])  # doctest: +SKIP
    """
    from recops.features import SparseFeature

    check_task("libfm", task)
    columns = _Columns(fields)
    parts = [_read(file, columns) for file in _files(Path(path).expanduser())]
    labels = np.concatenate(parts) > threshold
    if len(parts) == 1:
        part = random_parts(f"libfm: {path}", len(labels), seed)
    else:
        part = np.repeat(np.arange(3), [len(rows) for rows in parts])
    train = part == 0
    if labels[train].all() or not labels[train].any():
        raise DataError(
            f"libfm: {path}: all train labels are {'above' if labels.any() else 'at most'} "
            f"{threshold:g}; choose a threshold that tells clicks from the rest"
        )
    inputs, features, groups = {}, [], np.zeros(len(labels), np.int64)
    for name, entries in columns.named().items():
        feature, inputs[name] = entries.encode(name, len(labels), train, min_count)
        features.append(feature)
        if name == group and isinstance(feature, SparseFeature):
            groups = entries.dense_codes(len(labels))
    return divided(part, inputs, labels, groups, features)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return [single_file("libfm", path, part) for part in _PARTS]


@dataclass
class _Entries:
    """What lines have of one field: the row, index and value of each entry, in order of rows."""

    rows: list[np.ndarray] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)
    index: Factorizer = field(default_factory=Factorizer)

    def add(self, rows: list[int], index: list[bytes], values: list[float]) -> None:
        self.rows.append(np.array(rows, np.int64))
        self.values.append(np.array(values, np.float32))
        self.index.add(index)

    def dense_codes(self, rows: int) -> np.ndarray:
        """[rows] the code of the index that each row has, -1 for none."""
        codes = np.full(rows, -1, np.int64)
        codes[np.concatenate(self.rows)] = self.index.factors().codes
        return codes

    def encode(
        self, name: str, size: int, train: np.ndarray, min_count: int
    ) -> tuple[Feature, np.ndarray]:
        from recops.features import DenseFeature, SequenceFeature

        row, value = np.concatenate(self.rows), np.concatenate(self.values)
        index = self.index.factors()
        several = len(row) > 1 and bool((np.diff(row) == 0).any())
        if (value != 1).any():
            if several or len(index.distinct) > 1:
                raise DataError(
                    f"libfm: the field {name!r} has several indices ({index.distinct[0]}, "
                    f"{index.distinct[-1]}, ...) and values other than 1 "
                    f"({value[value != 1][0]:g}), which no feature can hold; give it one "
                    f"index, or values of 1"
                )
            numbers = np.zeros(size, np.float32)
            numbers[row] = value
            return DenseFeature(name), numbers
        encoder = Encoder([name], min_count)
        encoder.fit({name: index[train[row]]})
        ids = encoder.transform({name: index})[name]
        feature = encoder.features()[0]
        if not several:
            column = np.zeros(size, np.int32)
            column[row] = ids
            return feature, column
        begins = np.flatnonzero(np.concatenate([[True], np.diff(row) != 0]))
        lengths = np.diff(np.append(begins, len(row)))
        table = np.zeros((size, int(lengths.max())), np.int32)
        table[row, np.arange(len(row)) - np.repeat(begins, lengths)] = ids
        return (
            SequenceFeature(name, feature.vocabulary_size, table.shape[1], combiner="sum"),
            table,
        )


class _Columns:
    """The fields of all files, and which of them an entry belongs to."""

    def __init__(self, fields: Fields) -> None:
        if fields is not None and (isinstance(fields, str) or not len(fields)):
            raise ValueError(f"libfm: fields must be names or a mapping, got {fields!r}")
        self.fields = fields
        self.with_field: bool | None = None
        self.width: int | None = None
        self.entries: dict[int, _Entries] = {}
        self.rows = 0
        self.ranges: list[tuple[int, int]] = []
        if isinstance(fields, Mapping):
            self.ranges = [(int(first), int(last)) for first, last in fields.values()]
            _check_apart(fields)
        elif fields is not None and len(set(fields)) < len(fields):
            raise ValueError(f"libfm: fields names one twice: {list(fields)}")

    def learn_form(self, lines: list[bytes]) -> None:
        """What most of the first lines have: a field in each entry or none, and so many entries."""
        if self.with_field is not None:
            return
        # Remarks at the head of a file are no lines of it.
        split = (line.partition(b"#")[0].split()[1:] for line in lines)
        entries = list(itertools.islice(filter(None, split), _FIRST))
        if not entries:
            return
        forms = Counter(found[0].count(b":") == 2 for found in entries)
        self.with_field = forms.most_common(1)[0][0]
        widths = Counter(map(len, entries))
        self.width = widths.most_common(1)[0][0] if self.fields is None else len(self.fields)

    def place(self, tokens: list[bytes]) -> list[tuple[int, bytes, float]]:
        """Field, index and value of each entry of a line; ValueError says what does not fit."""
        colons = 2 if self.with_field else 1
        if any(token.count(b":") != colons for token in tokens):
            wrong = next(token for token in tokens if token.count(b":") != colons)
            form = "field:index:value" if self.with_field else "index:value"
            raise ValueError(f"expected {form}, got {wrong.decode('utf-8', 'replace')!r}")
        parts = [token.split(b":") for token in tokens]
        if self.with_field or self.ranges:
            keys = [int(part[0]) for part in parts]
        else:
            if self.width is not None and len(tokens) != self.width:
                raise ValueError(f"expected {self.width} entries, got {len(tokens)}")
            keys = list(range(len(tokens)))
        if self.ranges:
            keys = [self._within(key) for key in keys]
        placed = [(key, part[-2], float(part[-1])) for key, part in zip(keys, parts)]
        if not all(np.isfinite(value) for _, _, value in placed):
            raise ValueError("expected finite values")
        return placed

    def _within(self, number: int) -> int:
        for place, (first, last) in enumerate(self.ranges):
            if first <= number <= last:
                return place
        raise ValueError(f"{number} belongs to none of the fields")

    def named(self) -> dict[str, _Entries]:
        """The fields that lines have, by name."""
        found = sorted(self.entries)
        if self.fields is None:
            return {f"field_{number}": self.entries[number] for number in found}
        names = list(self.fields)
        if self.ranges:
            return {names[place]: self.entries[place] for place in found}
        if len(names) != len(found):
            raise ValueError(
                f"libfm: fields has {len(names)} names, but the lines have {len(found)} fields"
            )
        return {name: self.entries[number] for name, number in zip(names, found)}


def _check_apart(fields: Mapping[str, tuple[int, int]]) -> None:
    ordered = sorted(fields, key=lambda name: fields[name])
    for before, after in itertools.pairwise(ordered):
        if fields[after][0] <= fields[before][1]:
            raise ValueError(
                f"libfm: the fields {before!r} {tuple(fields[before])} and {after!r} "
                f"{tuple(fields[after])} overlap"
            )


Entries = tuple[list[int], list[bytes], list[float]]


def _blocks(
    lines: Lines, columns: _Columns
) -> Iterator[tuple[list[int], list[float], dict[int, Entries]]]:
    """The lines that fit: numbers, labels, and of each field row in the block, index and value."""
    for numbers, block in lines.blocks():
        columns.learn_form(block)
        found: dict[int, Entries] = {}
        labels: list[float] = []
        kept: list[int] = []
        for number, line in zip(numbers, block):
            tokens = line.partition(b"#")[0].split()
            if not tokens:
                lines.count -= 1
                continue
            try:
                label = float(tokens[0])
                placed = columns.place(tokens[1:])
                if not np.isfinite(label) or not placed:
                    raise ValueError("expected a label and entries")
            except ValueError as error:
                lines.reject(number, str(error))
                continue
            for key, index, value in placed:
                rows, indices, values = found.setdefault(key, ([], [], []))
                rows.append(len(labels))
                indices.append(index)
                values.append(value)
            labels.append(label)
            kept.append(number)
        yield kept, labels, found


def _read(path: Path, columns: _Columns) -> np.ndarray:
    """Read a file into the columns; the labels of its rows."""
    lines = Lines("libfm", path)
    all_labels: list[float] = []
    for _, labels, found in _blocks(lines, columns):
        begin = columns.rows + len(all_labels)
        for key, (rows, indices, values) in found.items():
            placed = [begin + row for row in rows]
            columns.entries.setdefault(key, _Entries()).add(placed, indices, values)
        all_labels += labels
    lines.close()
    columns.rows += len(all_labels)
    return np.array(all_labels, np.float64)


def table(path: Path, task: str = "ranking", threshold: float = 0) -> Table:
    """The files as `encode` reads them; fields are field_0, field_1, ..."""
    check_task("libfm", task)
    files = _files(path)
    tenths = [DIVIDED] if len(files) == 1 else [ALL_TRAIN, ALL_VALIDATION, ALL_TEST]
    columns = _Columns(None)

    def parse(lines: Lines) -> Iterator[Rows]:
        for numbers, labels, found in _blocks(lines, columns):
            lists, dense = {}, {}
            for key in sorted(found):
                rows, indices, values = found[key]
                name = f"field_{key}"
                lists[name] = np.array(rows, np.int64), coded(indices)
                number = np.full(len(labels), np.nan, np.float32)
                number[rows] = values
                dense[name] = number
            clicks = np.array(labels) > threshold
            groups = np.zeros(len(labels), np.int64)
            yield Rows(np.array(numbers, np.int64), clicks, groups, {}, lists, dense)

    return Table("libfm", list(zip(files, tenths)), text_of("libfm", parse), forms_unknown=True)
