"""What `encode` reads: the files of a source as blocks of rows, of which few are in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from recops.data.factors import Factorizer, Factors
from recops.data.lines import Lines

# Of ten rows, how many are train, validation and test.
Tenths = tuple[int, int, int]
DIVIDED, ALL_TRAIN, ALL_VALIDATION, ALL_TEST = (8, 1, 1), (10, 0, 0), (0, 10, 0), (0, 0, 10)
# Rows that share a random stream, so that the split of a row is a function of its number.
_DRAWN = 1 << 16


@dataclass(frozen=True)
class Rows:
    """Some rows as they stand in a file.

    Args:
      numbers: [n] of each row in its file, from 1, ascending.
      labels: [n].
      groups: [n] int64.
      values: category -> [n], one value a row.
      lists: category of several values a row -> the row [m], ascending, and the value [m] of each.
      dense: number -> [n] float32, NaN where missing.
    """

    numbers: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    values: Mapping[str, Factors] = field(default_factory=dict)
    lists: Mapping[str, tuple[np.ndarray, Factors]] = field(default_factory=dict)
    dense: Mapping[str, np.ndarray] = field(default_factory=dict)


class Cursor(Protocol):
    """One file that is read from front to back."""

    @property
    def done(self) -> int:
        """Bytes of the file that were read."""

    @property
    def count(self) -> int:
        """Rows that were found, those left out among them."""

    @property
    def lost(self) -> int:
        """Rows left out so far."""

    def rows(self) -> Iterator[Rows]:
        """The rows in blocks."""

    def last(self) -> int:
        """The number of the last row, without parsing."""

    def place(self) -> dict[str, Any]:
        """Where the next block begins."""

    def close(self) -> None:
        """Say what was left out, or raise DataError."""


@dataclass(frozen=True)
class Table:
    """A source that `encode` can read.

    Args:
      reader: its name.
      files: each with the tenths of its rows.
      open: (file, bytes of text in memory, place or None) -> Cursor.
      combiners: of the lists, by name.
      lengths: of the lists, where they are known beforehand.
      forms_unknown: what the features are shows in all rows alone, so that one pass is not enough.
      min_count: what is asked for where nothing else is.
      numeric: the transform of numbers where no other is asked for.
    """

    reader: str
    files: Sequence[tuple[Path, Tenths]]
    open: Callable[[Path, int, Mapping[str, Any] | None], Cursor]
    combiners: Mapping[str, str] = field(default_factory=dict)
    lengths: Mapping[str, int] = field(default_factory=dict)
    forms_unknown: bool = False
    min_count: int = 1
    numeric: str = "log"


class TextCursor:
    """Text by line, whose rows a function finds."""

    def __init__(self, lines: Lines, parse: Callable[[Lines], Iterator[Rows]]) -> None:
        self.lines, self._parse = lines, parse
        self.place, self.close = lines.place, lines.close

    @property
    def done(self) -> int:
        return self.lines.done

    @property
    def count(self) -> int:
        return self.lines.count

    @property
    def lost(self) -> int:
        return self.lines.lost

    def rows(self) -> Iterator[Rows]:
        return self._parse(self.lines)

    def last(self) -> int:
        return max((numbers[-1] for numbers, _ in self.lines.blocks()), default=0)


def text_of(reader: str, parse: Callable[[Lines], Iterator[Rows]]) -> Callable[..., TextCursor]:
    """`Table.open` of text files."""

    def opened(path: Path, block_bytes: int, place: Mapping[str, Any] | None) -> TextCursor:
        return TextCursor(Lines(reader, path, block_bytes, place), parse)

    return opened


def coded(cells: Iterable[bytes]) -> Factors:
    """A column of text in which nothing is missing."""
    made = Factorizer()
    made.add(cells)
    return made.factors()


def parts(
    numbers: np.ndarray, tenths: Tenths, seed: int, file: int, last: int | None
) -> np.ndarray:
    """[n] 0, 1 or 2 (train, validation, test) of rows by their number in a file.

    Args:
      numbers: [n], ascending.
      tenths: of the file.
      seed, file: of the random split: whatever the block that a row comes in, its split is one.
      last: None splits at random; else in order, `last` being the number of the last row.
    """
    bounds = np.cumsum(tenths)[:2]
    if 10 in tenths:
        return np.full(len(numbers), tenths.index(10), np.int8)
    if last is not None:
        return np.searchsorted(bounds, (numbers - 1) * 10 // last, side="right").astype(np.int8)
    drawn = np.empty(len(numbers), np.int64)
    blocks = numbers // _DRAWN
    for block in np.unique(blocks).tolist():
        here = blocks == block
        drawn[here] = np.random.default_rng([seed, file, block]).integers(10, size=_DRAWN)[
            numbers[here] % _DRAWN
        ]
    return np.searchsorted(bounds, drawn, side="right").astype(np.int8)
