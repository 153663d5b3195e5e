"""Encoded rows on disk: Parquet shards, and the manifest that says which of them are whole."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recops._core.whole import writing
from recops.data.sources import DataError

if TYPE_CHECKING:
    from recops.features import Feature

SPLITS = ("train", "validation", "test")
MANIFEST, ENCODER = "manifest.json", "encoder.json"
FORMAT = "recops.Shards 1"
# In the metadata of a shard: the encoder that its ids are of.
MARK = b"recops.encoder"
# So many rows are read at a time. Fewer cost more of what a column costs at each reading.
GROUP_ROWS = 1 << 15


def arrow(asker: str, module: str = "pyarrow") -> Any:
    """pyarrow or a module of it, or ImportError that says how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ImportError(
            f"{asker}: needs the package pyarrow: pip install 'recops[data]'"
        ) from None


def shape_of(feature: Feature) -> tuple[int, ...]:
    """The axes of a feature behind that of the rows."""
    from recops.features import DenseFeature, SequenceFeature

    if isinstance(feature, SequenceFeature):
        return (*(() if feature.sessions is None else (feature.sessions,)), feature.max_length)
    if isinstance(feature, DenseFeature) and feature.dimension > 1:
        return (feature.dimension,)
    return ()


def schema_of(features: Sequence[Feature], label: str, group: str | None) -> Any:
    """The columns of a shard: int32 ids, float32 numbers, lists of a fixed size of either."""
    from recops.features import DenseFeature

    pa = arrow("data")
    fields = []
    for feature in features:
        kind = pa.float32() if isinstance(feature, DenseFeature) else pa.int32()
        size = int(np.prod(shape_of(feature), dtype=np.int64))
        fields.append(pa.field(feature.name, pa.list_(kind, size) if shape_of(feature) else kind))
    fields.append(pa.field(label, pa.float32()))
    if group is not None:
        fields.append(pa.field(group, pa.int64()))
    return pa.schema(fields)


def free_name(name: str, taken: Sequence[str]) -> str:
    """A column name that no feature has."""
    while name in taken:
        name += "_"
    return name


def fingerprint(path: Path) -> str:
    """sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file that appears when it is whole."""
    with writing(path) as file:
        file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_manifest(folder: Path, asker: str) -> dict[str, Any]:
    """The manifest of a folder that `recops encode` wrote, whole or not; DataError for another."""
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}")
        if not all(isinstance(content["splits"][name], list) for name in SPLITS):
            raise ValueError("a split is missing")
        return content
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{asker}: {folder} holds no encoded data (no {MANIFEST}); make it by: "
            f"recops encode SOURCE {folder}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{asker}: {path} is no manifest that recops encode wrote, or is cut off ({error})"
        ) from None


class Segment:
    """Some rows in a row of a source on their way into one shard of each split.

    Args:
      folder: of the encoded data.
      number: of the segment, which names its shards.
      features, label, group: the columns.
      mark: fingerprint of the encoder.
      group_rows: of a row group.

    A shard has a temporary name until `commit`; without it `close` leaves nothing of them.
    """

    def __init__(
        self,
        folder: Path,
        number: int,
        features: Sequence[Feature],
        label: str,
        group: str,
        mark: str,
        group_rows: int,
    ) -> None:
        pa = arrow("encode")
        self.folder, self.number, self.features = folder, number, features
        self.label, self.group, self.group_rows = label, group, group_rows
        self.schema = schema_of(features, label, group)
        self._stored = self.schema.with_metadata({MARK: mark.encode()})
        self.rows = 0
        self._waiting: dict[str, list[Any]] = {name: [] for name in SPLITS}
        self._counts = dict.fromkeys(SPLITS, 0)
        self._writers: dict[str, Any] = {}
        self._table = pa.Table

    def add(
        self,
        part: np.ndarray,
        inputs: Mapping[str, np.ndarray],
        labels: np.ndarray,
        groups: np.ndarray,
    ) -> None:
        """Rows [n] with the split of each, 0, 1 or 2, in `part`."""
        self.rows += len(part)
        for which, name in enumerate(SPLITS):
            rows = part == which
            if rows.any():
                self._waiting[name].append(self._made(rows, inputs, labels, groups))
                self._write(name, self.group_rows)

    def _made(
        self,
        rows: np.ndarray,
        inputs: Mapping[str, np.ndarray],
        labels: np.ndarray,
        groups: np.ndarray,
    ) -> Any:
        pa = arrow("encode")
        columns = []
        for feature in self.features:
            kind = self.schema.field(feature.name).type
            values = np.ascontiguousarray(inputs[feature.name][rows])
            if shape_of(feature):
                flat = pa.array(values.reshape(-1), kind.value_type)
                columns.append(pa.FixedSizeListArray.from_arrays(flat, kind.list_size))
            else:
                columns.append(pa.array(values.reshape(-1), kind))
        columns.append(pa.array(labels[rows].astype(np.float32)))
        columns.append(pa.array(groups[rows].astype(np.int64)))
        return pa.Table.from_arrays(columns, schema=self.schema)

    def _write(self, name: str, least: int) -> None:
        """Write what waits for a split as row groups, when it is `least` rows or more."""
        waiting = self._waiting[name]
        if not waiting or sum(table.num_rows for table in waiting) < least:
            return
        table = arrow("encode").concat_tables(waiting)
        whole = max(least, table.num_rows // least * least)
        with self._explained():
            if name not in self._writers:
                pq = arrow("encode", "pyarrow.parquet")
                (self.folder / name).mkdir(exist_ok=True)
                self._writers[name] = pq.ParquetWriter(
                    self._temporary(name), self._stored, compression="snappy"
                )
            self._writers[name].write_table(table.slice(0, whole), row_group_size=self.group_rows)
        self._counts[name] += min(whole, table.num_rows)
        rest = table.slice(whole)
        self._waiting[name] = [rest] if rest.num_rows else []

    def commit(self) -> dict[str, dict[str, Any]]:
        """Give the shards their names; what the manifest says of each, by split."""
        found = {}
        with self._explained():
            for name in SPLITS:
                self._write(name, 1)
                if name in self._writers:
                    self._writers[name].close()
                    # A name must not stand for bytes that a crash of the machine has lost.
                    with self._temporary(name).open("rb") as file:
                        os.fsync(file.fileno())
        for name in self._writers:
            path = self.folder / name / f"{self.number:05d}.parquet"
            os.replace(self._temporary(name), path)
            found[name] = {
                "file": f"{name}/{path.name}",
                "rows": self._counts[name],
                "bytes": path.stat().st_size,
            }
        self._writers = {}
        return found

    def close(self) -> None:
        """Remove what was not committed."""
        for name, writer in self._writers.items():
            with contextlib.suppress(Exception):
                writer.close()
            self._temporary(name).unlink(missing_ok=True)
        self._writers = {}

    def _temporary(self, name: str) -> Path:
        return self.folder / name / f".{self.number:05d}.parquet.writing"

    @contextlib.contextmanager
    def _explained(self) -> Any:
        try:
            yield
        except OSError as error:
            if error.errno is None:
                # It was explained already.
                raise
            raise OSError(disk_error(self.folder, error)) from error


def disk_error(folder: Path, error: OSError) -> str:
    """What to tell of a folder that cannot be written to."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    why = "there is no space left" if full else f"it cannot be written ({error})"
    return (
        f"encode: {folder}: {why}; the shards that its {MANIFEST} names are whole, and the same "
        f"command goes on behind them"
    )
