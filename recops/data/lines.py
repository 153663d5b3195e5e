"""Text files by line, gzipped or not, with an account of the lines that do not fit."""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

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


class Account:
    """How many rows of a file do not fit, and the first of them.

    Who finds that a row does not fit says so by `reject`, and leaves it out; `close` gives the
    account: nothing when all fitted, a line on stderr up to 1 % of them, DataError above.

    Args:
      where: the file, for messages.
      what: its rows, in words.
      begun: what `account` gave, to go on from there.
    """

    def __init__(
        self, where: str, what: str = "lines", begun: Mapping[str, Any] | None = None
    ) -> None:
        begun = begun or {"count": 0, "lost": 0, "named": {}}
        self.where, self.what = where, what
        self.count: int = begun["count"]
        # Of the block that is being read; of those before, how many, and the first ones.
        self.rejected: dict[int, str] = {}
        self._lost: int = begun["lost"]
        self._named = {int(number): reason for number, reason in begun["named"].items()}

    @property
    def lost(self) -> int:
        """How many rows were rejected so far."""
        return self._lost + len(self.rejected)

    def reject(self, number: int, reason: str) -> None:
        """Note that a row does not fit and is left out. Its first reason counts."""
        self.rejected.setdefault(number, reason)

    def account(self) -> dict[str, Any]:
        """The account so far, in plain values."""
        self.settle()
        return {"count": self.count, "lost": self._lost, "named": self._named}

    def settle(self) -> None:
        """Keep of the rows rejected so far their number and the first ones alone."""
        self._lost += len(self.rejected)
        self._named = dict(sorted({**self._named, **self.rejected}.items())[:_NAMED])
        self.rejected = {}

    def close(self) -> None:
        """Say what was left out, or raise DataError when it is more than 1 % of the rows."""
        self.settle()
        lost, named = self._lost, self._named.items()
        if not self.count:
            raise DataError(f"{self.where} holds no {self.what.removesuffix('s')} of data")
        if not lost:
            return
        one = self.what.removesuffix("s")
        listed = "; ".join(f"{one} {number}: {reason}" for number, reason in named)
        if lost > _NAMED:
            listed += f"; and {lost - _NAMED:,} more"
        share = f"{lost:,} of {self.count:,} {self.what}"
        if lost > MOST_REJECTED * self.count:
            raise DataError(f"{self.where}: {share} do not fit the format: {listed}")
        print(f"recops: {self.where}: {share} left out: {listed}", file=sys.stderr, flush=True)


class Lines(Account):
    """The lines of one file, and an account of those that do not fit. Blank ones are passed over.

    Args:
      reader: who reads, for messages.
      path: the file; gzip is told by its content.
      block_bytes: of text at a time; None is some megabytes.
      place: what `place` gave, to go on from there.

    Raises: DataError when there is no such file, or it is a folder, empty or damaged.
    """

    def __init__(
        self,
        reader: str,
        path: str | os.PathLike[str],
        block_bytes: int | None = None,
        place: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path).expanduser()
        super().__init__(f"{reader}: {self.path}", begun=place)
        self.block_bytes = block_bytes or _BLOCK_BYTES
        # Bytes of the file that were read, compressed ones of gzip.
        self.done = 0
        # Where the next line begins, how much behind it was read already, and its number.
        self._next = (0, 0, 1)
        if place is not None:
            self._next = (place["offset"], place["ahead"], place["number"])
        if self.path.is_dir():
            raise DataError(f"{self.where} is a folder; give the path of a file")
        if not self.path.exists():
            raise DataError(f"{self.where}: no such file")

    def place(self) -> dict[str, Any]:
        """Where the block after the current one begins, and the account so far; plain values."""
        offset, ahead, number = self._next
        return {"offset": offset, "ahead": ahead, "number": number, **self.account()}

    def blocks(self) -> Iterator[tuple[list[int], list[bytes]]]:
        """Numbers (from 1) and text of the lines, some megabytes at a time."""
        start, ahead, number = self._next
        position, rest, first = start, b"", start == 0
        for chunk in self._chunks(start, ahead):
            position += len(chunk)
            if first:
                chunk, first = chunk.removeprefix(_MARK), False
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            if len(rest) > self.block_bytes:
                raise DataError(f"{self.where}: line {number} has no end; this is no text file")
            self._next = (position - len(rest), len(rest), number + len(lines))
            yield from self._kept(number, lines)
            number += len(lines)
        self._next = (position, 0, number + 1)
        yield from self._kept(number, [rest])
        if not self.count:
            raise DataError(f"{self.where} is empty")

    def _kept(self, number: int, lines: list[bytes]) -> Iterator[tuple[list[int], list[bytes]]]:
        numbers = [i for i, line in enumerate(lines, start=number) if not line.isspace() and line]
        if not numbers:
            return
        self.settle()
        self.count += len(numbers)
        yield numbers, [lines[i - number].rstrip(b"\r") for i in numbers]
        # No need to read gigabytes of what is another kind of file.
        if self.lost == self.count:
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

    def _chunks(self, start: int, ahead: int) -> Iterator[bytes]:
        try:
            with self._open() as file:
                file.seek(start)
                # What an earlier reading had of the next line, so that blocks are cut as in it.
                if ahead:
                    yield file.read(ahead)
                while chunk := file.read(self.block_bytes):
                    self.done = getattr(file, "fileobj", file).tell()
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
