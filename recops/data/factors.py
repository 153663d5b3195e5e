"""Columns as codes into their distinct values: four bytes a row, whatever the values are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Factors:
    """A column of N rows: `distinct[codes]`, where the code -1 stands for a missing value.

    Args:
      codes: [N] int32 or int64.
      distinct: the distinct values, all text or all numbers.

    Example:
      >>> Factors.of("cat", ["b", "a", None, "b"])
      Factors(codes=array([ 0,  1, -1,  0], dtype=int32), distinct=['b', 'a'])
    """

    codes: np.ndarray
    distinct: list[Any]

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: np.ndarray) -> Factors:
        return Factors(self.codes[rows], self.distinct)

    @property
    def text(self) -> bool:
        """Whether the values are text."""
        return bool(self.distinct) and isinstance(self.distinct[0], str)

    @classmethod
    def of(cls, name: str, values: Any) -> Factors:
        """From an array, a list or a pandas Series of text, integers, floats or booleans.

        None, NaN and pandas' NA are missing. `name` is for messages.

        Raises: ValueError for another type, a mixture of text and numbers, or another shape.
        """
        if isinstance(values, cls):
            return values
        if hasattr(values, "isna"):
            known = ~np.asarray(values.isna())
            if known.ndim == 1 and not known.all():
                # Beside a missing one, pandas gives integers as floats, which do not tell large
                # ones apart.
                return cls.of(name, values[known])._placed(np.flatnonzero(known), len(known))
        # A list would become text whole where one of its cells is.
        array = np.asarray(values, None if hasattr(values, "dtype") else object)
        if array.ndim != 1:
            raise ValueError(f"the column {name!r} must have the shape [N], got {[*array.shape]}")
        if array.dtype.kind in "biuf":
            return cls._of_numbers(array)
        if array.dtype.kind not in "OSUT":
            raise ValueError(f"the column {name!r} must hold text or numbers, got {array.dtype}")
        cells = array.tolist()
        present = np.flatnonzero([not _is_missing(cell) for cell in cells])
        if len(present) < len(cells):
            cells = [cells[i] for i in present.tolist()]
        kinds = {type(cell) for cell in cells}
        if all(issubclass(kind, str) for kind in kinds) or kinds <= {bytes, np.bytes_}:
            found = Factorizer()
            found.add(cells)
            inner = found.factors()
        elif all(issubclass(kind, (int, float, np.number, np.bool_)) for kind in kinds):
            inner = cls._of_numbers(_exactly(name, cells))
        else:
            named = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise ValueError(
                f"the column {name!r} must hold text or numbers alone, got {named}; convert it"
            )
        return inner._placed(present, len(array))

    def _placed(self, rows: np.ndarray, size: int) -> Factors:
        """The values at these rows among `size`, of which the others are missing."""
        codes = np.full(size, -1, np.int32)
        codes[rows] = self.codes
        return Factors(codes, self.distinct)

    @classmethod
    def _of_numbers(cls, array: np.ndarray) -> Factors:
        distinct, codes = np.unique(array, return_inverse=True)
        codes = codes.astype(np.int32)
        if array.dtype.kind == "f" and len(distinct) and np.isnan(distinct[-1]):
            # NaN sorts last, and once.
            distinct = distinct[:-1]
            codes[codes == len(distinct)] = -1
        return cls(codes, distinct.tolist())


def _is_missing(cell: Any) -> bool:
    # NaN and NaT differ from themselves; pandas' NA and an array neither do nor do not.
    if cell is None or type(cell).__name__ == "NAType":
        return True
    return not hasattr(cell, "__len__") and bool(cell != cell)


def _exactly(name: str, cells: list[Any]) -> np.ndarray:
    """An array of numbers of any kind in which none has become another."""
    array = np.array(cells)
    # A scalar of NumPy would itself be rounded for a comparison.
    cells = [cell.item() if isinstance(cell, np.generic) else cell for cell in cells]
    if array.dtype.kind == "O" or array.tolist() != cells:
        raise ValueError(
            f"the column {name!r} holds integers that no one type of NumPy can tell apart, such as "
            f"{max(cells, key=abs)}; convert them to text"
        )
    return array


def group_codes(asker: str, groups: Any) -> np.ndarray:
    """Numbers in place of groups of any kind and shape, equal where the groups are.

    Raises: ValueError for a group that is missing (None, NaN or pandas' NA), or no plain value.
    """
    # In a list, NaN beside text would become text, and large integers floats.
    array = np.asarray(groups, None if hasattr(groups, "dtype") else object)
    if array.dtype.kind in "biu":
        return array
    numbers = _numbering()
    try:
        # Hashing text takes a fraction of the time that sorting it does.
        found = np.fromiter(map(numbers.__getitem__, array.ravel().tolist()), np.int64)
    except TypeError as error:
        raise ValueError(f"{asker}: groups must be integers or strings ({error})") from None
    codes = found.reshape(array.shape)
    missing = np.array([_is_missing(group) for group in numbers], bool)[codes]
    if missing.any():
        row = int(np.flatnonzero(missing)[0])
        raise ValueError(
            f"{asker}: each row needs a group, got {array.ravel()[row]} in row {row} "
            f"({int(missing.sum())} of {array.size} rows); leave such rows out"
        )
    return codes


def _numbering() -> defaultdict[Any, int]:
    """Gives a value that is new the next number, without a line of Python a cell."""
    numbers: defaultdict[Any, int] = defaultdict()
    numbers.default_factory = numbers.__len__
    return numbers


class Factorizer:
    """Makes `Factors` of text that comes in blocks.

    Example:
      >>> made = Factorizer()
      >>> made.add([b"x", b"y"])
      >>> made.add([b"y"])
      >>> made.factors()
      Factors(codes=array([0, 1, 1], dtype=int32), distinct=['x', 'y'])
    """

    def __init__(self) -> None:
        self._codes = _numbering()
        self._blocks: list[np.ndarray] = []

    def add(self, cells: Iterable[Any]) -> None:
        """Further rows, text or bytes."""
        cells = list(cells)
        codes = map(self._codes.__getitem__, cells)
        self._blocks.append(np.fromiter(codes, np.int32, len(cells)))

    def factors(self) -> Factors:
        """All rows so far."""
        distinct = [
            cell.decode("utf-8", "backslashreplace") if isinstance(cell, bytes) else str(cell)
            for cell in self._codes
        ]
        return Factors(np.concatenate([np.zeros(0, np.int32), *self._blocks]), distinct)
