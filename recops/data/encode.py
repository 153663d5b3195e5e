"""A source of any size as Parquet shards of encoded ids, in bounded memory, whole after a kill."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recops.data.origins import FILES, SOURCES, Origin, origin
from recops.data.shards import (
    ENCODER,
    FORMAT,
    GROUP_ROWS,
    MANIFEST,
    SPLITS,
    Segment,
    arrow,
    disk_error,
    read_manifest,
    shape_of,
    write_json,
)
from recops.data.sources import DataError

_SPILLED, _LOCK = ".counts", ".lock"


@dataclass(frozen=True)
class Encoded:
    """What `encode` wrote.

    Args:
      folder: where.
      rows, shards: how many of each split, by name.
      left_out: rows [N] that did not fit the format.

    Example:
      >>> splits = {"train": 8, "validation": 1, "test": 1}
      >>> print(Encoded(Path("ads"), splits, dict.fromkeys(splits, 1), 0))
      train 8 rows in 1, validation 1 rows in 1, test 1 rows in 1 shards
    """

    folder: Path
    rows: Mapping[str, int]
    shards: Mapping[str, int]
    left_out: int

    def __str__(self) -> str:
        each = [f"{name} {rows:,} rows in {self.shards[name]}" for name, rows in self.rows.items()]
        lost = f"; {self.left_out:,} rows left out" if self.left_out else ""
        return f"{', '.join(each)} shards{lost}"


def encode(
    source: str,
    out: str | os.PathLike[str],
    *,
    spec: str | None = None,
    task: str | None = None,
    hash_buckets: int | Mapping[str, int] | None = None,
    min_count: int | None = None,
    split: str | None = None,
    numeric: str | None = None,
    seed: int = 0,
    shard_rows: int = 1_000_000,
    memory: int = 512,
    verbose: int | str = "auto",
) -> Encoded:
    """Encode a source of any size into Parquet shards, for `stream` and `recops train`.

    The ids are those of an `Encoder` fitted on the train rows, in two passes over the source; with
    `hash_buckets` one pass is enough. After a kill, or an error such as a full disk, the same call
    goes on behind the last whole shard.

    Args:
      source: "READER:PATH" with the reader criteo, libfm, amazon or adult, whose path is as in
        their functions; or parquet or csv with a file or a folder of them (files whose names all
        hold "train", "valid" or "test" are these splits). gzip is read too.
      out: folder for the shards, `encoder.json` and `manifest.json`.
      spec: the columns of parquet and csv: "label=NAME group=NAME categories=NAME,NAME
        numbers=NAME lists=NAME:LENGTH". The label is 0 or 1; the group is what GAUC groups by; of a
        list the first LENGTH values count, which "|" separates in csv.
      task: "ranking"; of amazon also "sequence", its own where none is asked for.
      hash_buckets: as in `Encoder`.
      min_count: a value in fewer train rows gets id 0; None is 10 for criteo, else 1.
      split: of files that are divided into train, validation and test, 8 : 1 : 1: "random" or
        "time", in order; None is "random", of amazon "time" ("last" is its other one).
      numeric: of numbers: "log" (sign(x) log(1 + |x|)), "percentile" (of a sample of 200,000 train
        rows) or "plain"; 0 where missing, as a percentile 0.5. None is the reader's own.
      seed: of the random split. It is a function of the number of a row in its file.
      shard_rows: rows of the source that are one shard of each split.
      memory: megabytes to keep to, beside those of TensorFlow and of the kept values themselves.
      verbose: 0, 1 (a progress bar) or 2 (a line at the end); "auto" is 1 on a terminal, else 2.

    Defaults: seed=0, shard_rows=1000000, memory=512, verbose="auto".

    Returns: Encoded: the rows and shards by split. A shard has an int32 column [N] for each
    category, float32 for each number, lists of a fixed size, the label and the group.

    Raises: recops.data.DataError for a source that is missing, empty or of another form, or too
    short; ValueError for an option out of range, or a folder that holds another encoded set;
    OSError when the folder cannot be written; ImportError without pyarrow.

    Cost: a pass reads some 80,000 lines of Criteo a second on one core. Each value that is
    kept stays in memory once; where these are too many, `hash_buckets` keeps none.

    Example:
      >>> encode("criteo:train.txt.gz", "criteo-encoded", hash_buckets=10**6)  # doctest: +SKIP
    """
    arrow("encode")
    reader, _, place = source.partition(":")
    if reader not in SOURCES or not place:
        raise ValueError(
            f"encode: source must be READER:PATH with a reader of {', '.join(SOURCES)}, got "
            f"{source!r}"
        )
    for name, value in (("shard_rows", shard_rows), ("memory", memory), ("min_count", min_count)):
        if value is not None and value < 1:
            raise ValueError(f"encode: {name} must be 1 or more, got {value}")
    if seed < 0:
        raise ValueError(f"encode: seed must be 0 or more, got {seed}")
    if (reader in FILES) != (spec is not None):
        raise ValueError(
            f"encode: the columns (spec=, --columns) are for {' and '.join(FILES)}, "
            f"{'which need them' if reader in FILES else f'not for {reader}'}"
        )
    path = Path(place).expanduser()
    asked = {
        "source": f"{reader}:{path.resolve()}",
        "spec": spec,
        "task": task or ("sequence" if reader == "amazon" else "ranking"),
        "hash_buckets": hash_buckets if hash_buckets is None else _plain(hash_buckets),
        "min_count": min_count,
        "split": split or ("time" if reader == "amazon" else "random"),
        "numeric": numeric,
        "seed": seed,
        "shard_rows": shard_rows,
        "memory": memory,
    }
    if verbose == "auto":
        verbose = 1 if sys.stdout.isatty() else 2
    folder = Path(out).expanduser()
    made = origin(reader, path, asked, folder / _SPILLED)
    with _writing(folder):
        return _encoded(folder, asked, made, int(verbose))


def _plain(buckets: int | Mapping[str, int]) -> Any:
    return dict(buckets) if isinstance(buckets, Mapping) else int(buckets)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """One at a time in a folder that can be written; what a full disk is said to be."""
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / _LOCK, timeout=0):
            yield
    except Timeout:
        raise ValueError(f"encode: {folder} is being written by another process") from None
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(disk_error(folder, error)) from error
    except DataError:
        # What cannot be read leaves no empty folder behind.
        if [path.name for path in folder.iterdir()] == [_LOCK]:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _encoded(folder: Path, asked: dict[str, Any], source: Origin, verbose: int) -> Encoded:
    manifest = _begun(folder, asked)
    bar = _Bar(source.sizes, verbose)
    try:
        if "features" not in manifest:
            source.learn(bar.moved)
            source.encoder.save(folder / ENCODER)
            manifest |= {"sizes": source.sizes, **source.said(folder)}
            write_json(folder / MANIFEST, manifest)
        elif manifest["sizes"] != source.sizes:
            raise DataError(
                f"encode: {asked['source']} has {sum(source.sizes):,} bytes, but when {folder} was "
                f"begun it had {sum(manifest['sizes']):,}; remove that folder, or choose another"
            )
        else:
            source.restore(folder, manifest)
        bar.again()
        _write(folder, manifest, source, bar)
    finally:
        shutil.rmtree(folder / _SPILLED, ignore_errors=True)
    bar.end()
    shards = manifest["splits"]
    rows = {name: sum(shard["rows"] for shard in shards[name]) for name in SPLITS}
    if not all(rows.values()):
        empty = next(name for name in SPLITS if not rows[name])
        raise DataError(f"encode: the {empty} split of {asked['source']} has no rows; give more")
    manifest["finished"] = True
    write_json(folder / MANIFEST, manifest)
    return Encoded(folder, rows, {n: len(shards[n]) for n in SPLITS}, manifest["left_out"])


def _begun(folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """The manifest of a folder that is new, or whose encoding was broken off."""
    if not (folder / MANIFEST).exists():
        begun = {"format": FORMAT, "finished": False, "options": asked, "left_out": 0}
        return {**begun, "splits": {name: [] for name in SPLITS}, "segments": 0, "place": None}
    manifest = read_manifest(folder, "encode")
    for name, value in asked.items():
        had = manifest["options"].get(name)
        if had != value:
            raise ValueError(
                f"encode: {folder} holds an encoded set with {name} {had!r}, but now it is "
                f"{value!r}; choose another folder, or remove that one"
            )
    if manifest["finished"]:
        raise ValueError(f"encode: {folder} already holds this set, whole; there is nothing to do")
    return manifest


def _write(folder: Path, manifest: dict[str, Any], source: Origin, bar: _Bar) -> None:
    features = source.features
    row_bytes = 4 * sum(int(np.prod(shape_of(f), dtype=np.int64)) for f in features)
    memory = manifest["options"]["memory"] << 20
    group_rows = int(np.clip(memory // 32 // row_bytes, 1024, GROUP_ROWS))
    columns_ = manifest["label"], manifest["group"], manifest["encoder"], group_rows
    segment: Segment | None = None
    try:
        for part, inputs, labels, groups, place in source.blocks(manifest["place"], bar.moved):
            if segment is None:
                segment = Segment(folder, manifest["segments"], features, *columns_)
            segment.add(part, inputs, labels, groups)
            if segment.rows >= manifest["options"]["shard_rows"]:
                _commit(folder, manifest, segment, place())
                segment = None
        if segment is not None:
            _commit(folder, manifest, segment, place())
            segment = None
        manifest["left_out"] = source.lost
    finally:
        if segment is not None:
            segment.close()


def _commit(
    folder: Path, manifest: dict[str, Any], segment: Segment, place: dict[str, Any]
) -> None:
    for name, shard in segment.commit().items():
        manifest["splits"][name].append(shard)
    manifest |= {"segments": segment.number + 1, "place": place}
    write_json(folder / MANIFEST, manifest)


class _Bar:
    """Keras's progress bar over the bytes of the files, one pass after the other."""

    def __init__(self, sizes: Sequence[int], verbose: int) -> None:
        self._sizes, self._verbose = list(sizes), verbose
        self._bar: Any = None
        self._done = 0

    def moved(self, file: int, done: int) -> None:
        """So many bytes of a file were read, and the files before it."""
        from recops._core.compat import keras

        if self._verbose != 1:
            return
        if self._bar is None:
            total = max(1, sum(self._sizes) >> 20)
            self._bar = keras.utils.Progbar(total, verbose=1, unit_name="MB")
        now = (sum(self._sizes[:file]) + done) >> 20
        if now > self._done:
            self._done = min(now, self._bar.target)
            self._bar.update(self._done)

    def again(self) -> None:
        """The next pass."""
        self.end()
        self._bar, self._done = None, 0

    def end(self) -> None:
        """All is read."""
        if self._bar is not None:
            self._bar.update(self._bar.target, finalize=True)
