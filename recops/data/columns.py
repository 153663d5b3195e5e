"""Parquet and CSV files of a user's own, by a short spec of their columns; pyarrow reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recops.data.factors import Factors
from recops.data.hashing import group_numbers
from recops.data.lines import Account
from recops.data.shards import arrow
from recops.data.sources import DataError
from recops.data.splits import check_task
from recops.data.tables import ALL_TEST, ALL_TRAIN, ALL_VALIDATION, DIVIDED, Rows, Table

_PARTS = {"train": ALL_TRAIN, "valid": ALL_VALIDATION, "test": ALL_TEST}
# A row of text is taken to have so many bytes where a block is measured in rows.
_ROW_BYTES = 128
_LIST_SEPARATOR = "|"
_KINDS = ("label", "group", "categories", "numbers", "lists")


@dataclass(frozen=True)
class Columns:
    """Which columns of a file are what.

    Args:
      label: 0 or 1.
      group: what GAUC groups by, or None.
      categories, numbers: names.
      lists: name -> how many values of it count; in CSV they are separated by "|".

    Example:
      >>> Columns.of("label=click group=user categories=user,item lists=genres:6").lists
      {'genres': 6}
    """

    label: str
    group: str | None = None
    categories: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    lists: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: str) -> Columns:
        """From "label=NAME group=NAME categories=A,B numbers=C lists=D:LENGTH,..."."""
        found: dict[str, list[str]] = {}
        for part in spec.split():
            kind, is_there, listed = part.partition("=")
            if kind not in _KINDS or not is_there or not listed or kind in found:
                raise ValueError(
                    f"encode: columns must be like 'label=NAME group=NAME categories=NAME,NAME "
                    f"numbers=NAME lists=NAME:LENGTH', each once, got {part!r} in {spec!r}"
                )
            found[kind] = listed.split(",")
        lists = {}
        for each in found.get("lists", []):
            name, _, length = each.rpartition(":")
            if not name or not length.isdigit() or not int(length):
                raise ValueError(f"encode: columns: a list is NAME:LENGTH, got {each!r}")
            lists[name] = int(length)
        names = [*found.get("categories", []), *found.get("numbers", []), *lists]
        single = [found.get(kind, [None]) for kind in ("label", "group")]
        if single[0] == [None] or any(len(each) > 1 for each in single) or not names:
            raise ValueError(
                f"encode: columns need one label and one category, number or list, got {spec!r}"
            )
        if len(set(names)) < len(names):
            raise ValueError(f"encode: columns name one twice: {', '.join(names)}")
        return cls(
            str(single[0][0]),
            single[1][0],
            tuple(found.get("categories", ())),
            tuple(found.get("numbers", ())),
            lists,
        )

    @property
    def names(self) -> list[str]:
        """All columns, each once."""
        group = [] if self.group is None else [self.group]
        return list(
            dict.fromkeys([self.label, *group, *self.categories, *self.numbers, *self.lists])
        )


def table(reader: str, path: Path, columns: Columns, task: str = "ranking") -> Table:
    """The files at a path, as `encode` reads them; `reader` is "parquet" or "csv"."""
    check_task(reader, task)
    arrow(reader)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if f".{reader}" in file.name.lower())
        if not files:
            raise DataError(f"{reader}: {path} holds no *.{reader}")
    elif path.exists():
        files = [path]
    else:
        raise DataError(f"{reader}: {path}: no such file or folder")
    parts = [next((part for part in _PARTS if part in file.name.lower()), "") for file in files]
    named = len(files) > 1 and all(parts)
    tenths = [_PARTS[part] if named else DIVIDED for part in parts]

    def opened(file: Path, block_bytes: int, place: Mapping[str, Any] | None) -> ArrowCursor:
        return ArrowCursor(reader, file, columns, block_bytes, place)

    return Table(
        reader,
        list(zip(files, tenths)),
        opened,
        combiners=dict.fromkeys(columns.lists, "mean"),
        lengths=columns.lists,
    )


class ArrowCursor(Account):
    """Rows of one Parquet or CSV file in blocks."""

    def __init__(
        self,
        reader: str,
        path: Path,
        columns: Columns,
        block_bytes: int,
        place: Mapping[str, Any] | None,
    ) -> None:
        super().__init__(f"{reader}: {path}", "rows", place)
        self.reader, self.path, self.columns, self.block_bytes = reader, path, columns, block_bytes
        self.done = 0
        self._skip = self._row = 0 if place is None else int(place["row"])

    def place(self) -> dict[str, Any]:
        return {"row": self._row, **self.account()}

    def last(self) -> int:
        return sum(batch.num_rows for batch in self._batches([self.columns.label]))

    def rows(self) -> Iterator[Rows]:
        seen = 0
        for batch in self._batches(self.columns.names):
            seen += batch.num_rows
            if seen <= self._skip or not batch.num_rows:
                continue
            self.settle()
            self.count += batch.num_rows
            self._row = seen
            yield self._made(batch, np.arange(seen - batch.num_rows + 1, seen + 1))
        if not self.count:
            raise DataError(f"{self.where} is empty")

    def _batches(self, names: list[str]) -> Iterator[Any]:
        pa = arrow(self.reader)
        try:
            batches = self._parquet(names) if self.reader == "parquet" else self._csv(names)
            yield from batches
        except (pa.ArrowException, OSError) as error:
            said = str(error).splitlines()[0]
            raise DataError(f"{self.where} is damaged or of another form: {said}") from None

    def _parquet(self, names: list[str]) -> Iterator[Any]:
        pq = arrow(self.reader, "pyarrow.parquet")
        size = self.path.stat().st_size
        with pq.ParquetFile(self.path) as file:
            self._check(names, file.schema_arrow.names)
            rows = max(1, self.block_bytes // _ROW_BYTES)
            for batch in file.iter_batches(rows, columns=names, use_threads=False):
                self.done += size * batch.num_rows // max(1, file.metadata.num_rows)
                yield batch

    def _csv(self, names: list[str]) -> Iterator[Any]:
        pa, csv = arrow(self.reader), arrow(self.reader, "pyarrow.csv")

        # Behind the head, the rows passed over and those left out among them.
        before = 1 + self._skip + self.lost

        def wrong(row: Any) -> str:
            if row.number is None or row.number > before:
                self.count += 1
                said = f"expected {row.expected_columns} columns, got {row.actual_columns}"
                self.reject(row.number or self.count, said)
            return "skip"

        with pa.input_stream(str(self.path), compression="detect") as stream:
            reader = csv.open_csv(
                stream,
                read_options=csv.ReadOptions(block_size=self.block_bytes, use_threads=False),
                parse_options=csv.ParseOptions(invalid_row_handler=wrong),
                convert_options=csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
                ),
            )
            self._check(names, reader.schema.names)
            for batch in reader:
                self.done += self.block_bytes
                yield batch.select(names)

    def _check(self, names: list[str], there: list[str]) -> None:
        for name in names:
            if name not in there:
                raise DataError(
                    f"{self.where}: the column {name!r} is missing; there are "
                    f"{', '.join(map(repr, there))}"
                )

    def _made(self, batch: Any, numbers: np.ndarray) -> Rows:
        columns = self.columns
        labels = self._floats(batch, columns.label, numbers)
        fits = np.isin(labels, (0, 1))
        for row in np.flatnonzero(~fits).tolist():
            self.reject(
                int(numbers[row]), f"expected 0 or 1 as {columns.label}, got {labels[row]:g}"
            )
        dense = {name: self._floats(batch, name, numbers) for name in columns.numbers}
        for name, found in dense.items():
            for row in np.flatnonzero(np.isinf(found)).tolist():
                self.reject(int(numbers[row]), f"expected a number as {name}")
                fits[row] = False
        groups = np.zeros(len(labels), np.int64)
        if columns.group is not None:
            groups = group_numbers(_factors(batch.column(columns.group)))
            for row in np.flatnonzero(groups < 0).tolist():
                self.reject(int(numbers[row]), f"{columns.group} is missing")
                fits[row] = False
        values = {name: _factors(batch.column(name))[fits] for name in columns.categories}
        lists = {name: _list(batch.column(name), fits) for name in columns.lists}
        dense = {name: found[fits] for name, found in dense.items()}
        return Rows(numbers[fits], labels[fits], groups[fits], values, lists, dense)

    def _floats(self, batch: Any, name: str, numbers: np.ndarray) -> np.ndarray:
        """A column as float32, NaN where missing, infinite where it is no number."""
        pa = arrow(self.reader)
        column = batch.column(name)
        if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
            made = column.cast(pa.float32(), safe=False)
            return made.to_numpy(zero_copy_only=False).astype(np.float32)
        return np.array([_number(cell) for cell in column.to_pylist()], np.float32)


def _number(cell: str | None) -> float:
    try:
        return float(cell or "nan")
    except ValueError:
        return np.inf


def _factors(column: Any) -> Factors:
    """A column of arrow, null where missing."""
    if hasattr(column, "dictionary_decode"):
        column = column.dictionary_decode()
    found = column.dictionary_encode()
    codes = found.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    distinct = found.dictionary.to_pylist()
    if distinct and not isinstance(distinct[0], (str, bytes, bool, int, float)):
        raise DataError(f"a category must be text or a number, got {type(distinct[0]).__name__}")
    if distinct and isinstance(distinct[0], bytes):
        distinct = [value.decode("utf-8", "backslashreplace") for value in distinct]
    return Factors(codes.astype(np.int32), distinct)


def _list(column: Any, fits: np.ndarray) -> tuple[np.ndarray, Factors]:
    """Row and value of each entry of the lists of the rows that fit."""
    pc, pa = arrow("data", "pyarrow.compute"), arrow("data")
    if pa.types.is_string(column.type):
        texts = pc.if_else(pc.equal(column, ""), None, column)
        column = pc.split_pattern(texts, _LIST_SEPARATOR)
    column = column.filter(pa.array(fits))
    rows = pc.list_parent_indices(column).to_numpy(zero_copy_only=False)
    return rows.astype(np.int64), _factors(pc.list_flatten(column))
