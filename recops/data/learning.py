"""The first pass of `encode`: what the features of a table are, and the ids of their values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recops.data.counting import ENTRY_BYTES, Counts, Sample
from recops.data.encoder import Encoder
from recops.data.numeric import TRANSFORMS, transform
from recops.data.percentile import Percentiles
from recops.data.sources import DataError
from recops.data.tables import Cursor, Rows, Table, parts

if TYPE_CHECKING:
    from recops.features import Feature

NUMERIC = (*TRANSFORMS, "plain")
# Of a short row of text.
_ROW_BYTES = 128
# Of each number, for its percentiles.
_SAMPLED = 200_000


@dataclass(frozen=True)
class Plan:
    """How a table is encoded; see `encode`."""

    hash_buckets: int | Mapping[str, int] | None
    min_count: int
    in_order: bool
    numeric: str
    seed: int
    memory: int
    shard_rows: int

    @property
    def block_bytes(self) -> int:
        """Of text in memory: as cells it takes some twelve times as much.

        A shard ends with a block, so that a block is no more than some of its rows.
        """
        return min(max(1 << 16, self.memory // 64), max(1 << 12, self.shard_rows * _ROW_BYTES))


@dataclass
class Learnt:
    """What turns rows into inputs: an encoder, the features, and quantiles of the numbers."""

    encoder: Encoder
    features: list[Feature]
    numeric: str
    quantiles: dict[str, list[float]] = field(default_factory=dict)
    # The number of the last row of each file, where rows are split in order.
    last: list[int | None] = field(default_factory=list)
    # Whether the first block told all, so that what does not fit was not counted yet.
    one_pass: bool = False

    def inputs(self, rows: Rows) -> dict[str, np.ndarray]:
        """The inputs of rows, by feature."""
        from recops.features import DenseFeature, SequenceFeature

        found = {}
        for feature in self.features:
            name, size = feature.name, len(rows.labels)
            if isinstance(feature, DenseFeature):
                found[name] = self._number(name, rows, size)
            elif name in rows.values:
                found[name] = self.encoder.ids(name, rows.values[name])
            else:
                length = feature.max_length if isinstance(feature, SequenceFeature) else 1
                table = np.zeros((size, length), np.int32)
                if name in rows.lists:
                    row, entries = rows.lists[name]
                    place = _places(row)
                    kept = place < length
                    table[row[kept], place[kept]] = self.encoder.ids(name, entries)[kept]
                found[name] = table if isinstance(feature, SequenceFeature) else table[:, 0]
        return found

    def _number(self, name: str, rows: Rows, size: int) -> np.ndarray:
        values = rows.dense.get(name)
        if values is None:
            values = np.full(size, np.nan, np.float32)
        if self.numeric == "plain":
            return np.nan_to_num(values).astype(np.float32)
        if self.numeric == "log":
            return transform(values, np.ones(size, bool), "log")
        if not self.quantiles[name]:
            return np.full(size, 0.5, np.float32)
        return Percentiles(self.quantiles[name]).transform(values)


def learn(table: Table, plan: Plan, folder: Path, moved: Callable[[int, int], None]) -> Learnt:
    """Read what has to be known before a row can be encoded: in one pass, or with the first block.

    Args:
      folder: for counts that do not fit in memory.
      moved: told (file, bytes read) now and then.
    """
    last = [
        table.open(path, plan.block_bytes, None).last() if plan.in_order else None
        for path, _ in table.files
    ]
    found = _Found(plan, folder)
    whole = plan.hash_buckets is None or plan.numeric == "percentile" or table.forms_unknown
    for number, (path, tenths) in enumerate(table.files):
        cursor = table.open(path, plan.block_bytes, None)
        for rows in cursor.rows():
            part = parts(rows.numbers, tenths, plan.seed, number, last[number])
            found.add(rows, part == 0, table.forms_unknown)
            if not whole:
                break
            moved(number, cursor.done)
        if not whole:
            break
        cursor.close()
    learnt = found.learnt(table)
    learnt.last, learnt.one_pass = last, not whole
    return learnt


class _Found:
    """What the rows so far show."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.counts = Counts(folder, max(1000, plan.memory // 4 // ENTRY_BYTES))
        self.samples: dict[str, Sample] = {}
        self.single: dict[str, None] = {}
        self.longest: dict[str, int] = {}
        self.weighted: dict[str, float] = {}
        self.indices: dict[str, set[Any]] = {}

    def add(self, rows: Rows, train: np.ndarray, forms_unknown: bool) -> None:
        hashed = self.plan.hash_buckets is not None
        for name, column in rows.values.items():
            self.single[name] = None
            if not hashed:
                self.counts.add(name, column[train])
        for name, (row, entries) in rows.lists.items():
            longest = int(_places(row).max(initial=-1)) + 1
            self.longest[name] = max(self.longest.get(name, 0), longest)
            if not hashed:
                self.counts.add(name, entries[train[row]])
            if forms_unknown:
                # Two tell that there are several.
                seen = self.indices.setdefault(name, set())
                seen.update(entries.distinct[: 2 - len(seen)] if len(seen) < 2 else ())
                values = rows.dense[name]
                if (other := values[~np.isnan(values) & (values != 1)]).size:
                    self.weighted.setdefault(name, float(other[0]))
        if not forms_unknown:
            for name, values in rows.dense.items():
                known = values[train]
                sample = self.samples.setdefault(name, Sample(_SAMPLED))
                if self.plan.numeric == "percentile":
                    sample.add(known[~np.isnan(known)])

    def learnt(self, table: Table) -> Learnt:
        from recops.features import DenseFeature, SequenceFeature

        dense = list(self.samples)
        lists = list(self.longest)
        if table.forms_unknown:
            # field_2 comes before field_10.
            lists.sort(key=lambda name: (len(name), name))
            dense = [name for name in lists if self._is_number(name)]
        ids = [*self.single, *(name for name in lists if name not in dense)]
        encoder = self._encoder(ids)
        features: list[Feature] = []
        for feature in encoder.features() if ids else []:
            length = table.lengths.get(feature.name, self.longest.get(feature.name, 0))
            if feature.name in self.single or (table.forms_unknown and length < 2):
                features.append(feature)
                continue
            combiner = table.combiners.get(feature.name, "sum")
            features.append(
                SequenceFeature(
                    feature.name, feature.vocabulary_size, max(1, length), combiner=combiner
                )
            )
        features += map(DenseFeature, dense)
        if table.forms_unknown:
            features.sort(key=lambda feature: lists.index(feature.name))
        quantiles = {
            name: Percentiles.fit(known).quantiles if len(known := sample.values()) else []
            for name, sample in self.samples.items()
        }
        numeric = "plain" if table.forms_unknown else self.plan.numeric
        return Learnt(encoder, features, numeric, {n: list(q) for n, q in quantiles.items()})

    def _encoder(self, names: list[str]) -> Encoder:
        buckets = self.plan.hash_buckets
        if buckets is not None:
            return Encoder(names or None, hash_buckets=buckets)
        encoder = Encoder(names or None, min_count=self.plan.min_count)
        counted = {name: self.counts.counted(name, self.plan.min_count) for name in names}
        return encoder.fit_counts(counted, self.counts.rows)

    def _is_number(self, name: str) -> bool:
        if name not in self.weighted:
            return False
        if self.longest[name] > 1 or len(self.indices[name]) > 1:
            raise DataError(
                f"libfm: the field {name!r} has several indices "
                f"({', '.join(map(str, sorted(self.indices[name])))}, ...) and values other than 1 "
                f"({self.weighted[name]:g}), which no feature can hold; give it one index, or "
                f"values of 1"
            )
        return True


def _places(row: np.ndarray) -> np.ndarray:
    """[m] the place of each entry in its row, where `row` [m] is ascending."""
    begins = np.flatnonzero(np.concatenate([[True], np.diff(row) != 0]))[: len(row)]
    lengths = np.diff(np.append(begins, len(row)))
    return np.arange(len(row)) - np.repeat(begins, lengths)


def blocks(
    table: Table, plan: Plan, learnt: Learnt, place: Mapping[str, Any] | None
) -> Iterator[tuple[int, Cursor, Iterator[tuple[np.ndarray, dict[str, np.ndarray], Rows]]]]:
    """Of each file from a place on: its number, its cursor, and its rows in blocks.

    A block is the split of each row, its inputs, and the rows themselves.
    """
    start = 0 if place is None else int(place["file"])
    for number in range(start, len(table.files)):
        at = place["cursor"] if place is not None and number == start else None
        cursor = table.open(table.files[number][0], plan.block_bytes, at)
        yield number, cursor, _encoded(table, plan, learnt, number, cursor)


def _encoded(
    table: Table, plan: Plan, learnt: Learnt, number: int, cursor: Cursor
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray], Rows]]:
    tenths = table.files[number][1]
    for rows in cursor.rows():
        part = parts(rows.numbers, tenths, plan.seed, number, learnt.last[number])
        yield part, learnt.inputs(rows), rows
