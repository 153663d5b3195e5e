"""Text files by line, gzipped or not, with an account of the lines that do not fit."""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np

from recops.data.sources import DataError

# Above this share of lines that do not fit, it is not the file that it was taken for.
MOST_REJECTED = 0.01

_BLOCK_BYTES = 16 << 20
_NAMED = 5
_GZIP, _MARK = b"\x1f\x8b", b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Block:
    """Some lines of a table: their numbers in the file [n], and each column's cells [n]."""

    numbers: np.ndarray
    columns: list[list[bytes]]

    def keep(self, rows: np.ndarray) -> Block:
        """The rows that a mask keeps."""
        if rows.all():
            return self
        chosen = np.flatnonzero(rows).tolist()
        return Block(self.numbers[rows], [[c[i] for i in chosen] for c in self.columns])


class Lines:
    """The lines of one file. Blank ones are passed over.

    Who finds that a line does not fit says so by `reject`, and leaves it out; `close` gives the
    account: nothing when all fitted, a line on stderr up to 1 % of them, DataError above.

    Args:
      reader: who reads, for messages.
      path: the file; gzip is told by its content.

    Raises: DataError when there is no such file, or it is a folder, empty or damaged.
    """

    def __init__(self, reader: str, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()
        self.where = f"{reader}: {self.path}"
        self.count = 0
        self.rejected: dict[int, str] = {}
        if self.path.is_dir():
            raise DataError(f"{self.where} is a folder; give the path of a file")
        if not self.path.exists():
            raise DataError(f"{self.where}: no such file")

    def blocks(self) -> Iterator[tuple[list[int], list[bytes]]]:
        """Numbers (from 1) and text of the lines, some megabytes at a time."""
        number, rest, first = 1, b"", True
        for chunk in self._chunks():
            if first:
                chunk, first = chunk.removeprefix(_MARK), False
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            if len(rest) > _BLOCK_BYTES:
                raise DataError(f"{self.where}: line {number} has no end; this is no text file")
            yield from self._kept(number, lines)
            number += len(lines)
        yield from self._kept(number, [rest])
        if not self.count:
            raise DataError(f"{self.where} is empty")

    def _kept(self, number: int, lines: list[bytes]) -> Iterator[tuple[list[int], list[bytes]]]:
        numbers = [i for i, line in enumerate(lines, start=number) if not line.isspace() and line]
        if not numbers:
            return
        self.count += len(numbers)
        yield numbers, [lines[i - number].rstrip(b"\r") for i in numbers]
        # No need to read gigabytes of what is another kind of file.
        if len(self.rejected) == self.count:
            self.close()

    def table(
        self, width: int, separator: bytes, skip: Callable[[bytes], bool] = lambda line: False
    ) -> Iterator[Block]:
        """The lines as cells; one of another width is rejected, unless `skip` says it is none."""
        for numbers, lines in self.blocks():
            kept = []
            for number, line in zip(numbers, lines):
                found = line.count(separator) + 1
                if found == width:
                    kept.append((number, line))
                elif skip(line):
                    self.count -= 1
                else:
                    self.reject(number, f"expected {width} columns, got {found}")
            if kept:
                cells = separator.join(line for _, line in kept).split(separator)
                columns = [cells[i::width] for i in range(width)]
                yield Block(np.array([number for number, _ in kept]), columns)

    def numbers(self, block: Block, columns: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
        """Cells of the columns {name: place} as float32 [n, C], NaN where empty; which rows fit.

        A row with a cell that is no finite number is rejected.
        """
        values = np.empty((len(block.numbers), len(columns)), np.float32)
        fits = np.ones(len(values), bool)
        for to, (name, column) in enumerate(columns.items()):
            cells = block.columns[column]
            try:
                values[:, to] = [float(cell or b"nan") for cell in cells]
            except ValueError:
                values[:, to] = [_number(cell) for cell in cells]
            for row in np.flatnonzero(np.isinf(values[:, to])).tolist():
                reason = f"expected a number as {name}, got {_shown(cells[row])}"
                self.reject(int(block.numbers[row]), reason)
                fits[row] = False
        return values, fits

    def choices(
        self, block: Block, column: int, name: str, known: Mapping[bytes, int]
    ) -> np.ndarray:
        """The number of each cell in `known` [n]; -1 where it is not there, and rejected."""
        values = np.array([known.get(cell, -1) for cell in block.columns[column]], np.int8)
        for row in np.flatnonzero(values < 0):
            expected = " or ".join(sorted({key.decode() for key in known}))
            self.reject(
                int(block.numbers[row]),
                f"expected the {name} {expected}, got {_shown(block.columns[column][row])}",
            )
        return values

    def reject(self, number: int, reason: str) -> None:
        """Note that a line does not fit and is left out. Its first reason counts."""
        self.rejected.setdefault(number, reason)

    def close(self) -> None:
        """Say what was left out, or raise DataError when it is more than 1 % of the lines."""
        lost, named = len(self.rejected), sorted(self.rejected.items())[:_NAMED]
        if not self.count:
            raise DataError(f"{self.where} holds no line of data")
        if not lost:
            return
        listed = "; ".join(f"line {number}: {reason}" for number, reason in named)
        if lost > _NAMED:
            listed += f"; and {lost - _NAMED:,} more"
        share = f"{lost:,} of {self.count:,} lines"
        if lost > MOST_REJECTED * self.count:
            raise DataError(f"{self.where}: {share} do not fit the format: {listed}")
        print(f"recops: {self.where}: {share} left out: {listed}", file=sys.stderr, flush=True)

    def _chunks(self) -> Iterator[bytes]:
        try:
            with self._open() as file:
                while chunk := file.read(_BLOCK_BYTES):
                    yield chunk
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{self.where} is damaged or cut off: {error}") from None
        except OSError as error:
            raise DataError(f"{self.where} cannot be read ({error.strerror})") from None

    def _open(self) -> IO[bytes]:
        with self.path.open("rb") as file:
            zipped = file.read(len(_GZIP)) == _GZIP
        return cast(IO[bytes], gzip.open(self.path)) if zipped else self.path.open("rb")


def _number(cell: bytes) -> float:
    try:
        return float(cell or b"nan")
    except ValueError:
        return np.inf


def _shown(cell: bytes) -> str:
    text = cell.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 30 else f"{text[:30]}...")
