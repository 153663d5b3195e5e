"""Categorical values to ids, learnt on the training rows alone, and widths of embeddings."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recops._core.whole import writing
from recops.data.factors import Factors
from recops.data.hashing import checked_buckets, hashed
from recops.data.sources import DataError

if TYPE_CHECKING:
    from recops.features import SparseFeature

_FORMAT, _HASHED = "recops.Encoder 1", "recops.Encoder 2"
_RULES = ("log2", "quartic", "auto")


class Encoder:
    """Ids from 1 for the values of each column, and 0 for what the fitted rows do not have.

    Fit it on the training rows only: a value that they lack is as unknown in validation as it will
    be when serving. Ids run by falling count, ties by value, as `log_uniform` sampling presumes; so
    they depend neither on the order of the rows nor on the form that they come in.

    Data may be a pandas DataFrame, a mapping of columns [N], or an array [N] or [N, C], whose
    columns are then named "0", "1", ...; a list or a pandas Series is one column, "0". Columns hold
    text, integers, floats or booleans; None, NaN and pandas' NA are missing, and get id 0.

    Args:
      columns: names to encode; None takes all that the fitted data has.
      min_count: a value with fewer rows gets id 0 like an unknown one.
      hash_buckets: nothing is learnt, and the id of a value is 1 + its hash modulo so many buckets,
        a number for all columns or {column: number}; a missing value still gets 0. For values that
        are too many to keep: two of them may share an id, and none is unknown. The hash is that of
        `tf.strings.to_hash_bucket_fast`, of a number that of its decimal digits.

    Defaults: min_count=1.

    Raises: ValueError for a column that is missing, of another length or type than expected, or
    text where numbers were fitted (or the reverse), or both text and bytes; for a `min_count`
    beside `hash_buckets`; RuntimeError before `fit`.

    Cost: text is hashed once a cell, numbers are sorted; no line of Python runs once a row. What is
    learnt is kept once a distinct value, with `hash_buckets` nothing.

    Example:
      >>> encoder = Encoder(min_count=2)
      >>> train = {"city": ["Rome", "Oslo", "Rome", "Lima", "Oslo", "Rome"]}
      >>> encoder.fit_transform(train)
      {'city': array([1, 2, 1, 0, 2, 1], dtype=int32)}
      >>> encoder.transform({"city": ["Paris", "Oslo", None]})["city"]
      array([0, 2, 0], dtype=int32)
      >>> encoder.features(embedding_dim=4)[0].vocabulary_size
      2
      >>> Encoder(["city"], hash_buckets=1000).transform({"city": ["Paris", None]})["city"]
      array([651,   0], dtype=int32)
    """

    def __init__(
        self,
        columns: Sequence[str] | None = None,
        min_count: int = 1,
        hash_buckets: int | Mapping[str, int] | None = None,
    ) -> None:
        if isinstance(columns, str) or (columns is not None and not len(columns)):
            raise ValueError(f"Encoder: columns must be names of columns, got {columns!r}")
        if isinstance(min_count, bool) or not isinstance(min_count, int) or min_count < 1:
            raise ValueError(f"Encoder: min_count must be an integer of 1 or more, got {min_count}")
        self.columns = None if columns is None else list(map(str, columns))
        self.min_count = min_count
        if hash_buckets is not None and min_count != 1:
            raise ValueError(
                f"Encoder: hash_buckets counts nothing and takes no min_count, got {min_count}"
            )
        self.hash_buckets = checked_buckets(hash_buckets, self.columns)
        if isinstance(self.hash_buckets, dict) and self.columns is None:
            self.columns = list(self.hash_buckets)
        self._values: dict[str, list[Any]] = {}
        self._counts: dict[str, np.ndarray] = {}
        self._ids: dict[str, dict[Any, int]] = {}

    def fit(self, data: Any) -> Encoder:
        """Learn the values of the training rows; what was learnt before is forgotten.

        With `hash_buckets` it learns the names of the columns alone.
        """
        found = _columns("Encoder.fit", data, self.columns)
        if self.hash_buckets is not None:
            self.columns = [name for name, _ in found]
            return self
        counted, rows = {}, {}
        for name, column in found:
            present = column.codes[column.codes >= 0]
            count = np.bincount(present, minlength=len(column.distinct)).tolist()
            counted[name], rows[name] = zip(column.distinct, count), len(column)
        return self.fit_counts(counted, rows)

    def fit_counts(
        self, counted: Mapping[str, Iterable[tuple[Any, int]]], rows: Mapping[str, int]
    ) -> Encoder:
        """`fit` of what was counted: of each column (value, count), and its rows in all."""
        values, counts = {}, {}
        for name, pairs in counted.items():
            ordered = sorted((-n, value) for value, n in pairs if n >= self.min_count)
            values[name] = [value for _, value in ordered]
            numbers = [-number for number, _ in ordered]
            counts[name] = np.array([rows[name] - sum(numbers), *numbers], np.int64)
        self._learn(values, counts)
        return self

    def _learn(self, values: dict[str, list[Any]], counts: dict[str, np.ndarray]) -> None:
        self._values, self._counts = values, counts
        self._ids = {
            name: {value: i for i, value in enumerate(known, start=1)}
            for name, known in values.items()
        }

    def transform(self, data: Any) -> Any:
        """Ids of any rows: int32, an array for an array, list or Series, else a dict of [N]."""
        if self.hash_buckets is None:
            self._check_fitted("transform")
        wanted = self.columns if self.hash_buckets is not None else list(self._values)
        found = _columns("Encoder.transform", data, wanted)
        ids = {name: self.ids(name, column) for name, column in found}
        if _flat(data):
            return next(iter(ids.values()))
        return np.stack(list(ids.values()), axis=1) if isinstance(data, np.ndarray) else ids

    def ids(self, name: str, column: Factors) -> np.ndarray:
        """[N] int32 ids of one column."""
        if self.hash_buckets is not None:
            return hashed(column, self._buckets(name))
        known = self._ids[name]
        if known and column.distinct and column.text != isinstance(next(iter(known)), str):
            fitted, came = ("numbers", "text") if column.text else ("text", "numbers")
            raise ValueError(
                f"Encoder.transform: the column {name!r} was fitted on {fitted}, but now it "
                f"holds {came}; convert it as it was"
            )
        # One entry more, for the code -1 of a missing value.
        table = np.array([*(known.get(value, 0) for value in column.distinct), 0], np.int32)
        return table[column.codes]

    def fit_transform(self, data: Any) -> Any:
        """`fit`, then `transform` of the same rows."""
        return self.fit(data).transform(data)

    def vocabulary(self, column: str) -> list[Any]:
        """The values of a column by id: entry 0 has id 1."""
        return list(self._known(self._values, column))

    def counts(self, column: str) -> np.ndarray:
        """[V + 1] int64: in how many fitted rows each id stands, as samplers take it."""
        return self._known(self._counts, column).copy()

    def features(self, embedding_dim: int | str = 16) -> list[SparseFeature]:
        """A `SparseFeature` a column, in order; their width, or the rule of `embedding_dim`."""
        from recops.features import SparseFeature

        self._check_fitted("features")
        # A column without any frequent value still has the row of the unknown.
        sizes = {name: max(1, len(values)) for name, values in self._values.items()}
        if self.hash_buckets is not None:
            sizes = {name: self._buckets(name) for name in self.columns or ()}
        made = []
        for name, size in sizes.items():
            width = embedding_dim
            if isinstance(width, str):
                width = _embedding_dim(size, width)
            made.append(SparseFeature(name, vocabulary_size=size, embedding_dim=width))
        return made

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what was learnt as JSON; the file appears when it is whole.

        An infinity is written as Python's json does, `Infinity`, which strict readers refuse.
        """
        self._check_fitted("save")
        path = Path(path).expanduser()
        content: dict[str, Any] = {
            "format": _FORMAT,
            "min_count": self.min_count,
            "columns": {
                name: {"values": values, "counts": self._counts[name].tolist()}
                for name, values in self._values.items()
            },
        }
        if self.hash_buckets is not None:
            sizes = {name: self._buckets(name) for name in self.columns or ()}
            content = {"format": _HASHED, "hash_buckets": sizes}
        with writing(path) as file:
            # Python reads the Infinity again that JSON itself does not have; NaN is never a value.
            file.write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Encoder:
        """The encoder that `save` wrote.

        Raises: recops.data.DataError when the file is missing, cut off or of another kind.
        """
        try:
            content = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
            if content["format"] == _HASHED:
                return cls(hash_buckets=content["hash_buckets"])
            if content["format"] != _FORMAT:
                raise ValueError(f"format {content['format']!r}")
            found = content["columns"]
            values = {name: column["values"] for name, column in found.items()}
            counts = {name: np.array(c["counts"], np.int64) for name, c in found.items()}
            if any(counts[name].shape != (len(values[name]) + 1,) for name in found):
                raise ValueError("a count is missing")
            for name, known in values.items():
                if not any(all(isinstance(v, kind) for v in known) for kind in (str, (int, float))):
                    raise ValueError(f"the column {name!r} holds neither text nor numbers alone")
            made = cls(list(values), content["min_count"])
            made._learn(values, counts)
        except FileNotFoundError:
            raise DataError(f"Encoder.load: {path}: no such file") from None
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            raise DataError(
                f"Encoder.load: {path} is no file that Encoder.save wrote, or is cut off ({error})"
            ) from None
        return made

    def _buckets(self, column: str) -> int:
        assert self.hash_buckets is not None
        return (
            self.hash_buckets if isinstance(self.hash_buckets, int) else self.hash_buckets[column]
        )

    def _known(self, table: dict[str, Any], column: str) -> Any:
        if self.hash_buckets is not None:
            raise ValueError("Encoder: with hash_buckets nothing is learnt; ids have no one value")
        self._check_fitted("the vocabulary")
        if column not in table:
            raise ValueError(
                f"Encoder: no column {column!r}; there are {', '.join(map(repr, table))}"
            )
        return table[column]

    def _check_fitted(self, what: str) -> None:
        if self.hash_buckets is not None and self.columns is None:
            raise RuntimeError(
                f"Encoder: {what} needs the names of the columns; give columns=, or call fit first"
            )
        if self.hash_buckets is None and not self._values:
            raise RuntimeError(f"Encoder: {what} needs a fitted encoder; call fit first")


def _columns(asker: str, data: Any, wanted: Sequence[str] | None) -> Iterator[tuple[str, Factors]]:
    """The wanted columns (None: all), by name, in the order of `wanted`."""
    if _flat(data):
        data = {"0": data}
    if isinstance(data, np.ndarray):
        if data.ndim != 2:
            raise ValueError(f"{asker}: expected an array [N] or [N, C], got {list(data.shape)}")
        data = {str(i): data[:, i] for i in range(data.shape[1])}
    if not (isinstance(data, Mapping) or hasattr(data, "columns")):
        raise ValueError(
            f"{asker}: expected a DataFrame, a mapping of columns or an array, got "
            f"{type(data).__name__}"
        )
    present = {str(name): name for name in (data if isinstance(data, Mapping) else data.columns)}
    if not present:
        raise ValueError(f"{asker}: the data has no columns")
    rows = None
    for name in present if wanted is None else wanted:
        if name not in present:
            raise ValueError(
                f"{asker}: the column {name!r} is missing; there are "
                f"{', '.join(map(repr, present))}"
            )
        try:
            column = Factors.of(name, data[present[name]])
        except ValueError as error:
            raise ValueError(f"{asker}: {error}") from None
        rows = len(column) if rows is None else rows
        if len(column) != rows:
            raise ValueError(
                f"{asker}: the column {name!r} has {len(column)} rows, the first one {rows}"
            )
        yield name, column


def _flat(data: Any) -> bool:
    """Whether the data is one column without a name: an array [N], or what stands for one."""
    if isinstance(data, np.ndarray) or hasattr(data, "isna"):
        return data.ndim == 1
    return isinstance(data, (list, tuple))


def embedding_dim(n: int, rule: str = "log2", k: float = 6, max_k: float = 16) -> int:
    """Width of an embedding for a vocabulary of n values, by a rule of thumb.

        log2:     ceil(log2(n))
        quartic:  ceil(k n^(1/4))
        auto:     6 floor(n^(1/4)), as DeepCTR's "auto"

    Args:
      n: number of values, 1 or more.
      rule: "log2", "quartic" or "auto".
      k: factor of "quartic", above 0 and at most `max_k`.
      max_k: bound of k.

    Defaults: rule="log2", k=6, max_k=16.

    Returns: 1 or more.

    Raises: ValueError for an unknown rule or a number out of range.

    Example:
      >>> [embedding_dim(10_000, rule) for rule in ("log2", "quartic", "auto")]
      [14, 60, 60]
    """
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"embedding_dim: n must be an integer of 1 or more, got {n!r}")
    if rule not in _RULES:
        raise ValueError(
            f"embedding_dim: rule must be one of {', '.join(map(repr, _RULES))}, got {rule!r}"
        )
    if not 0 < k <= max_k:
        raise ValueError(f"embedding_dim: k must be above 0 and at most {max_k}, got {k}")
    n = int(n)
    if rule == "log2":
        return max(1, (n - 1).bit_length())
    # Integer roots: the float fourth root of 10,000 is below 10 on some machines.
    root = math.isqrt(math.isqrt(n))
    if rule == "auto":
        return 6 * root
    exact = root if root**4 == n else n**0.25
    return max(1, math.ceil(k * exact))


# `Encoder.features` has an argument of the same name.
_embedding_dim = embedding_dim
