"""What `encode` reads, each made ready to be learnt from and to be written block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from recops.data.adult import table as of_adult
from recops.data.amazon import encoded as of_amazon
from recops.data.columns import Columns
from recops.data.columns import table as of_columns
from recops.data.criteo import table as of_criteo
from recops.data.encoder import Encoder
from recops.data.learning import NUMERIC, Learnt, Plan, blocks, learn
from recops.data.libfm import table as of_libfm
from recops.data.shards import ENCODER, MANIFEST, fingerprint, free_name
from recops.data.sources import DataError
from recops.data.tables import Table

if TYPE_CHECKING:
    from recops.features import Feature

TABLES: dict[str, Callable[..., Table]] = {
    "adult": of_adult,
    "criteo": of_criteo,
    "libfm": of_libfm,
}
FILES = ("parquet", "csv")
SOURCES = (*sorted((*TABLES, "amazon")), *FILES)
_SPLITS = ("random", "time")

Moved = Callable[[int, int], None]
# The split of each row, its inputs, labels and groups, and what tells where the next block begins.
Block = tuple[
    np.ndarray, dict[str, np.ndarray], np.ndarray, np.ndarray, Callable[[], dict[str, Any]]
]


class Origin(Protocol):
    """A source as `encode` handles it: `learn` or `restore`, then `blocks`."""

    @property
    def sizes(self) -> list[int]:
        """Bytes of each file."""

    @property
    def encoder(self) -> Encoder:
        """Once it has learnt."""

    @property
    def features(self) -> list[Feature]:
        """Once it has learnt."""

    @property
    def lost(self) -> int:
        """Rows left out, once `blocks` is through."""

    def learn(self, moved: Moved) -> None:
        """The first pass."""

    def said(self, folder: Path) -> dict[str, Any]:
        """What the manifest keeps of it."""

    def restore(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        """In place of `learn`, from what was kept."""

    def blocks(self, place: Mapping[str, Any] | None, moved: Moved) -> Iterator[Block]:
        """The rows from a place on."""


def origin(reader: str, path: Path, asked: Mapping[str, Any], spilled: Path) -> Origin:
    """The source of a reader with what is asked for, or ValueError or DataError."""
    if reader == "amazon":
        return _Amazon(path, asked)
    if reader in FILES:
        table = of_columns(reader, path, Columns.of(asked["spec"]), asked["task"])
    else:
        table = TABLES[reader](path, asked["task"])
    return _Tabular(table, asked, spilled)


class _Tabular:
    """Criteo, Adult, libFM, Parquet and CSV: rows that stand for themselves."""

    def __init__(self, table: Table, asked: Mapping[str, Any], spilled: Path) -> None:
        numeric = asked["numeric"] or table.numeric
        for option, value, known in (
            ("split", asked["split"], _SPLITS),
            ("numeric", numeric, NUMERIC),
        ):
            if value not in known:
                raise ValueError(
                    f"encode: {option} must be one of {', '.join(map(repr, known))} for "
                    f"{table.reader}, got {value!r}"
                )
        if asked["hash_buckets"] is not None and asked["min_count"] is not None:
            raise ValueError("encode: hash_buckets counts nothing and takes no min_count")
        for file, _ in table.files:
            if not file.exists():
                raise DataError(f"{table.reader}: {file}: no such file or folder")
        self.table, self.spilled = table, spilled
        self.sizes = [path.stat().st_size for path, _ in table.files]
        self.lost = 0
        self.plan = Plan(
            asked["hash_buckets"],
            asked["min_count"] or table.min_count,
            asked["split"] == "time",
            numeric,
            asked["seed"],
            asked["memory"] << 20,
            asked["shard_rows"],
        )
        self.learnt: Learnt

    @property
    def encoder(self) -> Encoder:
        return self.learnt.encoder

    @property
    def features(self) -> list[Feature]:
        return self.learnt.features

    def learn(self, moved: Moved) -> None:
        self.learnt = learn(self.table, self.plan, self.spilled, moved)

    def said(self, folder: Path) -> dict[str, Any]:
        return {
            **_said(self.features, folder),
            "numeric": self.learnt.numeric,
            "quantiles": self.learnt.quantiles,
            "last": self.learnt.last,
            "one_pass": self.learnt.one_pass,
        }

    def restore(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        from recops.features import from_config

        if fingerprint(folder / ENCODER) != manifest["encoder"]:
            raise DataError(f"encode: {folder / ENCODER} is not the encoder of its {MANIFEST}")
        self.learnt = Learnt(
            Encoder.load(folder / ENCODER),
            from_config(manifest["features"]),
            *(manifest[name] for name in ("numeric", "quantiles", "last", "one_pass")),
        )

    def blocks(self, place: Mapping[str, Any] | None, moved: Moved) -> Iterator[Block]:
        self.lost = 0 if place is None else place["lost"]
        for number, cursor, found in blocks(self.table, self.plan, self.learnt, place):
            for part, inputs, rows in found:

                def here(number: int = number, cursor: Any = cursor) -> dict[str, Any]:
                    return {"file": number, "cursor": cursor.place(), "lost": self.lost}

                yield part, inputs, rows.labels, rows.groups, here
                moved(number, cursor.done)
            if self.learnt.one_pass:
                # Two passes have said so after the first.
                cursor.close()
            self.lost += cursor.lost


class _Amazon:
    """Amazon's reviews, whose rows need all that a user had reviewed before."""

    def __init__(self, path: Path, asked: Mapping[str, Any]) -> None:
        if asked["hash_buckets"] is not None:
            raise ValueError(
                "encode: amazon draws negatives by how often an item stands in train, and takes no "
                "hash_buckets"
            )
        if asked["numeric"] is not None:
            raise ValueError("encode: amazon has no numbers, and takes no numeric")
        self._options = (path, asked["task"], asked["split"], asked["min_count"] or 1)
        self._seed = asked["seed"]
        self.lost = 0
        self.sizes = [1]

    def learn(self, moved: Moved) -> None:
        self.encoder, self.features, self._found = of_amazon(*self._options, self._seed)

    def said(self, folder: Path) -> dict[str, Any]:
        return _said(self.features, folder)

    def restore(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self.encoder, self.features, self._found = of_amazon(*self._options, self._seed)

    def blocks(self, place: Mapping[str, Any] | None, moved: Moved) -> Iterator[Block]:
        first = 0 if place is None else place["block"]
        for number, block in enumerate(self._found(first), start=first):
            following = {"block": number + 1}
            yield block.part, block.inputs, block.labels, block.groups, following.copy


def _said(features: list[Feature], folder: Path) -> dict[str, Any]:
    from recops.features import to_config

    names = [feature.name for feature in features]
    return {
        "features": to_config(features),
        "label": free_name("label", names),
        "group": free_name("group", names),
        "encoder": fingerprint(folder / ENCODER),
    }
