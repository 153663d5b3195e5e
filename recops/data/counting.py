"""How often each value of a column stands in rows that come in blocks, in bounded memory."""

from __future__ import annotations

import heapq
import itertools
import pickle
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import IO, Any

import numpy as np

from recops.data.factors import Factors

_Pair = tuple[Any, int]
# Pairs that are written and read at a time.
_PAIRS = 1 << 12
# Of a value and its count in a dictionary.
ENTRY_BYTES = 200


class Counts:
    """Counts of the values of columns; what does not fit waits in sorted files.

    Args:
      folder: for the files.
      limit: distinct values in memory, of all columns together.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self.rows: dict[str, int] = {}
        self._tables: dict[str, dict[Any, int]] = {}
        self._files: dict[str, list[Path]] = {}

    def add(self, name: str, column: Factors) -> None:
        """Further rows of a column."""
        self.rows[name] = self.rows.get(name, 0) + len(column)
        table = self._tables.setdefault(name, {})
        count = np.bincount(column.codes[column.codes >= 0], minlength=len(column.distinct))
        for value, n in zip(column.distinct, count.tolist()):
            if n:
                table[value] = table.get(value, 0) + n
        if sum(map(len, self._tables.values())) > self.limit:
            self._spill()

    def counted(self, name: str, at_least: int = 1) -> Iterator[_Pair]:
        """The values of a column with their counts, each once, without the rare ones."""
        table = self._tables.get(name, {})
        runs = [_read(path) for path in self._files.get(name, ())]
        if not runs:
            yield from (pair for pair in table.items() if pair[1] >= at_least)
            return
        merged = heapq.merge(*runs, iter(sorted(table.items())), key=itemgetter(0))
        for value, same in itertools.groupby(merged, key=itemgetter(0)):
            count = sum(n for _, n in same)
            if count >= at_least:
                yield value, count

    def _spill(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for place, (name, table) in enumerate(self._tables.items()):
            if not table:
                continue
            files = self._files.setdefault(name, [])
            path = self.folder / f"{place}-{len(files)}"
            pairs = sorted(table.items())
            with path.open("wb") as file:
                for start in range(0, len(pairs), _PAIRS):
                    pickle.dump(pairs[start : start + _PAIRS], file)
            files.append(path)
            table.clear()


def _read(path: Path) -> Iterator[_Pair]:
    with path.open("rb") as file:
        while block := _next(file):
            yield from block


def _next(file: IO[bytes]) -> list[_Pair]:
    try:
        return pickle.load(file)
    except EOFError:
        return []


class Sample:
    """Every so-manieth of the numbers of a column, at most `most` of them.

    Example:
      >>> kept = Sample(most=2)
      >>> kept.add(np.arange(5.0))
      >>> kept.values().tolist()
      [0.0, 4.0]
    """

    def __init__(self, most: int) -> None:
        self._most, self._step, self._seen = most, 1, 0
        self._kept = np.zeros(0)

    def add(self, values: np.ndarray) -> None:
        """Further numbers."""
        first = -self._seen % self._step
        self._seen += len(values)
        self._kept = np.concatenate([self._kept, values[first :: self._step]])
        while len(self._kept) > self._most:
            self._kept, self._step = self._kept[::2], 2 * self._step

    def values(self) -> np.ndarray:
        """Those that were kept."""
        return self._kept
