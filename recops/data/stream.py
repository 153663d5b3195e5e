"""Data sets that need not fit in memory: what `recops encode` wrote, or Parquet files of ids."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recops.data.dataset import Dataset
from recops.data.shards import (
    ENCODER,
    MARK,
    SPLITS,
    arrow,
    fingerprint,
    read_manifest,
    schema_of,
    shape_of,
)
from recops.data.sources import DataError
from recops.data.splits import check_task
from recops.data.streaming import Shard, Stream

if TYPE_CHECKING:
    from recops.features import Feature


def stream(
    path: str | os.PathLike[str],
    task: str = "ranking",
    *,
    interleave: int = 4,
    worker: int = 0,
    workers: int = 1,
) -> Dataset:
    """What `recops encode` wrote, as a data set whose batches are read while training.

    Args:
      path: the folder.
      task: "ranking", or "sequence" where histories were encoded.
      interleave: row groups (of at most 32,768 rows) that are read, and shuffled, together: of as
        many shards, where there are so many.
      worker, workers: this process's number and how many there are: the train split then has every
        `workers`-th shard. Validation and test are whole for each.

    Defaults: task="ranking", interleave=4, worker=0, workers=1.

    Returns: Dataset. Its splits' `batches` also take `start`, the batches to leave out: an epoch
    that was broken off goes on from there. `inputs[name]`, `labels` and `groups` read a whole
    column.

    Raises: recops.data.DataError when there is no encoded set or it is not finished, a shard is
    missing, cut off or of another form, or the encoder is not that of the shards; ValueError for a
    task that it does not have, or fewer shards than workers; ImportError without pyarrow.

    Cost: two windows of `interleave` row groups in memory, whatever the rows.

    Example:
      >>> data = stream("criteo-encoded")  # doctest: +SKIP
    """
    from recops.features import SequenceFeature, from_config

    arrow("stream")
    folder = Path(path).expanduser()
    manifest = read_manifest(folder, "stream")
    if not manifest["finished"]:
        raise DataError(
            f"stream: the encoding of {folder} was broken off; finish it by the same recops encode"
        )
    has = manifest["options"]["task"]
    check_task("stream", task, ("ranking",) if has == "ranking" else ("sequence", "ranking"))
    encoder = folder / ENCODER
    if not encoder.exists():
        raise DataError(f"stream: {encoder}: no such file; encode the source again")
    if fingerprint(encoder) != manifest["encoder"]:
        raise DataError(
            f"stream: {encoder} does not belong to the shards of {folder}: put back the one that "
            f"was written with them, or encode the source again"
        )
    features = from_config(manifest["features"])
    schema = schema_of(features, manifest["label"], manifest["group"])
    shards = {
        name: [
            _encoded_shard(folder, shard, schema, manifest) for shard in manifest["splits"][name]
        ]
        for name in SPLITS
    }
    if task != has:
        features = [f for f in features if not isinstance(f, SequenceFeature)]
    columns = manifest["label"], manifest["group"]
    return _dataset(shards, features, *columns, interleave, worker, workers)


def parquet(
    path: str | os.PathLike[str],
    spec: Sequence[Feature],
    *,
    label: str = "label",
    group: str | None = None,
    interleave: int = 4,
    worker: int = 0,
    workers: int = 1,
) -> Dataset:
    """Parquet files whose ids are encoded already, as a data set that is read while training.

    Args:
      path: a folder with the folders train, validation and test, or with files whose names begin
        so.
      spec: the features, each a column of its name: integers 0..vocabulary_size, numbers, or lists
        of either, which are padded with 0.
      label: the column of 0 or 1.
      group: the column that GAUC groups by, an integer; None makes all rows one group.
      interleave, worker, workers: as of `stream`.

    Defaults: label="label", interleave=4, worker=0, workers=1.

    Returns: Dataset, as of `stream`.

    Raises: recops.data.DataError for a split without files, a file that is no Parquet or lacks a
    column, or ids beyond the vocabulary where the file says what it holds; ValueError for fewer
    files than workers; ImportError without pyarrow.

    Example:
      >>> from recops.features import SparseFeature
      >>> data = parquet("clicks/", [SparseFeature("item", 1000)])  # doctest: +SKIP
    """
    arrow("parquet")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise DataError(f"parquet: {folder}: no such folder")
    features = list(spec)
    needed = [feature.name for feature in features] + [label] + ([group] if group else [])
    shards = {}
    for name in SPLITS:
        files = sorted({*folder.glob(f"{name}/*.parquet"), *folder.glob(f"{name}*.parquet")})
        if not files:
            raise DataError(
                f"parquet: {folder} has no files of the {name} split ({name}/*.parquet or "
                f"{name}*.parquet)"
            )
        shards[name] = [_plain_shard(file, needed, features) for file in files]
    return _dataset(shards, features, label, group, interleave, worker, workers)


def _dataset(
    shards: Mapping[str, Sequence[Shard]],
    features: Sequence[Feature],
    label: str,
    group: str | None,
    interleave: int,
    worker: int,
    workers: int,
) -> Dataset:
    if interleave < 1:
        raise ValueError(f"stream: interleave must be 1 or more, got {interleave}")
    train, validation, test = (
        Stream(shards[name], features, label, group, interleave) for name in SPLITS
    )
    train = train.of_worker(worker, workers)
    return Dataset(train, validation, test, list(features))


def _opened(path: Path) -> tuple[Any, Any]:
    """Schema and metadata of a Parquet file, or DataError."""
    pa, pq = arrow("stream"), arrow("stream", "pyarrow.parquet")
    try:
        with pq.ParquetFile(path) as file:
            return file.schema_arrow, file.metadata
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"stream: {path} is no Parquet file, or is damaged ({str(error).splitlines()[0]})"
        ) from None


def _encoded_shard(
    folder: Path, said: Mapping[str, Any], schema: Any, manifest: Mapping[str, Any]
) -> Shard:
    path = folder / said["file"]
    again = "encode the source again"
    if not path.exists():
        raise DataError(f"stream: the shard {path} is missing; {again}")
    if (size := path.stat().st_size) != said["bytes"]:
        raise DataError(
            f"stream: the shard {path} has {size:,} bytes, but {said['bytes']:,} were written: it "
            f"is cut off or another file; {again}"
        )
    found, metadata = _opened(path)
    if not found.equals(schema, check_metadata=False):
        odd = sorted(set(map(str, found)) ^ set(map(str, schema)))
        raise DataError(
            f"stream: the shard {path} has other columns than {folder} says "
            f"({', '.join(odd[:4])}); {again}"
        )
    if (found.metadata or {}).get(MARK, b"").decode() != manifest["encoder"]:
        raise DataError(f"stream: the shard {path} was encoded by another encoder; {again}")
    return Shard(path, _groups(metadata))


def _plain_shard(path: Path, needed: Sequence[str], features: Sequence[Feature]) -> Shard:
    found, metadata = _opened(path)
    for name in needed:
        if name not in found.names:
            raise DataError(
                f"parquet: {path} has no column {name!r}; it has "
                f"{', '.join(map(repr, found.names))}"
            )
    for feature in features:
        _check_column(path, feature, found.field(feature.name).type)
        size = getattr(feature, "vocabulary_size", None)
        if size is not None and not shape_of(feature):
            _check_range(path, feature.name, size, metadata)
    return Shard(path, _groups(metadata))


def _check_column(path: Path, feature: Feature, kind: Any) -> None:
    types = arrow("parquet").types
    is_list = types.is_list(kind) or types.is_fixed_size_list(kind) or types.is_large_list(kind)
    inner = kind.value_type if is_list else kind
    ids = hasattr(feature, "vocabulary_size")
    fits = types.is_integer(inner) if ids else types.is_floating(inner) or types.is_integer(inner)
    if is_list != bool(shape_of(feature)) or not fits:
        expected = "integers" if ids else "numbers"
        raise DataError(
            f"parquet: {path}: the column {feature.name!r} must hold "
            f"{'lists of ' if shape_of(feature) else ''}{expected}, got {kind}"
        )


def _check_range(path: Path, name: str, size: int, metadata: Any) -> None:
    """DataError for an id beyond the vocabulary, where the file's statistics show one."""
    for group in range(metadata.num_row_groups):
        of = metadata.row_group(group)
        columns = [of.column(i) for i in range(of.num_columns)]
        known = next(c.statistics for c in columns if c.path_in_schema == name)
        if known is None or not known.has_min_max:
            continue
        for bad in (known.min, known.max):
            if not 0 <= bad <= size:
                raise DataError(
                    f"parquet: {path}: id {bad} of {name!r} is outside 0..{size} "
                    f"(vocabulary_size {size}; 0 is unknown or padding)"
                )


def _groups(metadata: Any) -> tuple[int, ...]:
    return tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
