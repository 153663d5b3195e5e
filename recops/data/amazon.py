"""Amazon's product reviews as behaviour histories, as DIN and DIEN are judged on.

R. He and J. McAuley, 2016 (reviews to 2014); J. Ni et al., 2019 (to 2018); Y. Hou et al., 2024 (to
2023). All three forms are read.
"""

from __future__ import annotations

import ast
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recops.data.dataset import Dataset
from recops.data.encoder import Encoder
from recops.data.factors import Factorizer, Factors
from recops.data.lines import Lines
from recops.data.movielens_sequence import SESSION_LENGTH, SESSIONS, Earlier
from recops.data.negatives import sample_negatives
from recops.data.sources import DataError
from recops.data.splits import check_task, divided

if TYPE_CHECKING:
    from recops.features import Feature

_TASKS = ("sequence", "ranking")
_SPLITS = ("time", "last")
# Names of the fields in the order of preference. In 2023 the items of the meta data are parents.
_USER, _ITEM = ("reviewerID", "user_id"), ("parent_asin", "asin")
_ASIN = re.compile(rb"""["'](?:parent_)?asin["']\s*:\s*["'](\w+)["']""")
_JSON = re.compile(r"\.jsonl?(\.gz)?$")
_UNKNOWN = ""
_DAY = 86_400
_LENGTH = 50
_ROWS = 1 << 16


def amazon(
    path: str | os.PathLike[str],
    meta: str | os.PathLike[str] | None = None,
    task: str = "sequence",
    *,
    split: str = "time",
    max_length: int = _LENGTH,
    min_count: int = 1,
    seed: int = 0,
) -> Dataset:
    """Which item does a user review next? Encoded on the train split.

    Each review whose user has earlier ones is a row with the label 1; beside it stands a row with
    the same history and, as its item, one drawn from all others that the user had not reviewed by
    then: label 0. Grouped by user.

    Features: user, item, category (the narrowest that the meta data has). With the task "sequence"
    also hist_item and hist_category [max_length]: the latest reviews at an earlier time, oldest
    first, then 0; for each step of these a sampled negative, neg_hist_item and neg_hist_category;
    and sess_item [5, 10]: the same in sessions, which a pause of a day divides, since reviews are
    dated by day.

    Nothing is learnt from the future: ids, categories and negatives are those of the train reviews.
    An item that these lack can be no target, for its unknown id would tell it from its negative,
    and is left out of histories.

    Args:
      path: the reviews, JSON lines, gzipped or not; or a folder that has both files, the meta
        data's name beginning with "meta".
      meta: the meta data; None where `path` is a folder.
      task: "sequence", or "ranking": the same rows without histories.
      split: "time": the last tenth of the reviews' time is test, the one before validation, for all
        users alike. "last": each user's last review is test, the one before it validation, as DIN
        has it; train then knows other users' later reviews.
      max_length: steps of a history.
      min_count: an item, user or category in fewer train reviews gets id 0.
      seed: of the negatives.

    Defaults: task="sequence", split="time", max_length=50, min_count=1, seed=0.

    Returns: Dataset.

    Raises: recops.data.DataError for a file that is missing, empty or of another form, or when a
    split has no rows; ValueError for an unknown task or split.

    Source: Zhou et al., Deep Interest Network, KDD 2018, section 6.1.

    Example:
      >>> data = amazon("reviews_Books_5.json.gz", "meta_Books.json.gz")  # doctest: +SKIP
    """
    check_task("amazon", task, _TASKS)
    _check_split(split)
    if max_length < 1:
        raise ValueError(f"amazon: max_length must be 1 or more, got {max_length}")
    return _Reviews.read(Path(path).expanduser(), meta, split, min_count).dataset(
        task, max_length, seed
    )


@dataclass(frozen=True)
class Block:
    """Some rows: the split of each (0, 1, 2), inputs by feature, labels and groups."""

    part: np.ndarray
    inputs: dict[str, np.ndarray]
    labels: np.ndarray
    groups: np.ndarray


def encoded(
    path: Path, task: str, split: str, min_count: int, seed: int
) -> tuple[Encoder, list[Feature], Callable[[int], Iterator[Block]]]:
    """The encoder and features of `amazon`, and its rows in blocks from that of a number on.

    One block is in memory, beside 20 bytes a review.
    """
    check_task("amazon", task, _TASKS)
    _check_split(split)
    reviews = _Reviews.read(path, None, split, min_count)
    features, blocks = reviews.rows(task, _LENGTH, seed)
    return reviews.encoder, features, blocks


@dataclass(frozen=True)
class _Reviews:
    """Reviews by user and time: users and times [N], the encoded columns, the split of each."""

    user: np.ndarray
    time: np.ndarray
    ids: Mapping[str, np.ndarray]
    part: np.ndarray
    encoder: Encoder

    @classmethod
    def read(
        cls, path: Path, meta: str | os.PathLike[str] | None, split: str, min_count: int
    ) -> _Reviews:
        reviews_file, meta_file = _files(path, meta)
        user, item, time = _reviews(reviews_file)
        known = _categories(meta_file, set(item.distinct))
        found = Factorizer()
        found.add([known.get(name, _UNKNOWN) for name in item.distinct])
        category = found.factors()
        category = Factors(category.codes[item.codes], category.distinct)

        part = _parts(user.codes, time, split)
        encoder = Encoder(min_count=min_count)
        columns = {"user": user, "item": item, "category": category}
        encoder.fit({name: column[part == 0] for name, column in columns.items()})
        return cls(user.codes, time, encoder.transform(columns), part, encoder)

    def dataset(self, task: str, max_length: int, seed: int) -> Dataset:
        features, found = self.rows(task, max_length, seed)
        blocks = list(found(0))
        names = blocks[0].inputs
        return divided(
            np.concatenate([block.part for block in blocks]),
            {name: np.concatenate([block.inputs[name] for block in blocks]) for name in names},
            np.concatenate([block.labels for block in blocks]),
            np.concatenate([block.groups for block in blocks]),
            features,
        )

    def rows(
        self, task: str, max_length: int, seed: int
    ) -> tuple[list[Feature], Callable[[int], Iterator[Block]]]:
        """The features, and each known review with an earlier one beside its negative."""
        item = self.ids["item"]
        times = np.stack([self.user, self.user, self.user, self.time], axis=1)
        earlier = Earlier.of(times, item > 0, item)
        rows = np.flatnonzero((earlier.stop > earlier.start) & (item > 0))
        for which, name in enumerate(("train", "validation", "test")):
            if not (self.part[rows] == which).any():
                raise DataError(
                    f"amazon: the {name} split has no review of a known item with an earlier one "
                    f"of its user; there are {len(item):,} reviews, which is too few"
                )

        def blocks(first: int) -> Iterator[Block]:
            # In parts, since what the busiest user had seen makes a row wide.
            for number in range(first, math.ceil(len(rows) / _ROWS)):
                some = rows[number * _ROWS : (number + 1) * _ROWS]
                yield self._block(earlier, some, number, task, max_length, seed)

        return self._features(task, max_length), blocks

    def _features(self, task: str, max_length: int) -> list[Feature]:
        from recops.features import SequenceFeature

        sparse = self.encoder.features()
        features: list[Feature] = [*sparse]
        if task == "sequence":
            for feature in sparse[1:]:
                of, size = feature.name, feature.vocabulary_size
                features += [
                    SequenceFeature(f"hist_{of}", size, max_length, target=of),
                    SequenceFeature(f"neg_hist_{of}", size, max_length, negative_of=f"hist_{of}"),
                ]
            items = sparse[1].vocabulary_size
            features.append(
                SequenceFeature(
                    "sess_item", items, SESSION_LENGTH, target="item", sessions=SESSIONS
                )
            )
        return features

    def _block(
        self,
        earlier: Earlier,
        rows: np.ndarray,
        number: int,
        task: str,
        max_length: int,
        seed: int,
    ) -> Block:
        counts = self.encoder.counts("item")
        of_item = np.zeros(len(counts), np.int32)
        of_item[self.ids["item"]] = self.ids["category"]
        of_item[0] = 0

        earlier = replace(earlier, start=earlier.start[rows], stop=earlier.stop[rows])
        item, user = self.ids["item"][rows], self.user[rows]
        # A sum would draw what another seed draws for another part.
        target = _unseen(earlier, item[:, None], counts, 0, (seed, 0, number))[:, 0]
        # A row and its negative stand together.
        pairs = np.repeat(np.arange(len(rows)), 2)
        both = np.stack([item, target], axis=1).reshape(-1)
        labels = np.tile([1, 0], len(rows))
        inputs = {"user": self.ids["user"][rows][pairs], "item": both, "category": of_item[both]}
        if task == "sequence":
            history = earlier.latest(max_length)
            negatives = _unseen(earlier, history, counts, 0.75, (seed, 1, number))
            for of, clicks, unseen in (
                ("item", history, negatives),
                ("category", of_item[history], of_item[negatives]),
            ):
                inputs[f"hist_{of}"], inputs[f"neg_hist_{of}"] = clicks[pairs], unseen[pairs]
            inputs["sess_item"] = earlier.sessions(SESSIONS, SESSION_LENGTH, gap=_DAY)[pairs]
        return Block(self.part[rows][pairs], inputs, labels, user[pairs])


def _unseen(
    earlier: Earlier,
    positives: np.ndarray,
    counts: np.ndarray,
    distortion: float,
    seed: tuple[int, int, int],
) -> np.ndarray:
    """For each positive [N, T] an item that its user had not reviewed by then."""
    return sample_negatives(
        positives,
        vocabulary_size=len(counts) - 1,
        counts=counts,
        distortion=distortion,
        exclude=earlier.latest(int((earlier.stop - earlier.start).max())),
        seed=seed,
    )


def _check_split(split: str) -> None:
    if split not in _SPLITS:
        raise ValueError(
            f"amazon: split must be one of {', '.join(map(repr, _SPLITS))}, got {split!r}"
        )


def _parts(user: np.ndarray, time: np.ndarray, split: str) -> np.ndarray:
    """0, 1 or 2 (train, validation, test) for each review of reviews by user and time."""
    if split == "last":
        last = np.append(np.flatnonzero(np.diff(user)), len(user) - 1)
        from_end = np.repeat(last, np.diff(last, prepend=-1)) - np.arange(len(user))
        return np.maximum(2 - from_end, 0).astype(np.int8)
    ordered = np.sort(time)
    bounds = [ordered[len(time) * share // 10] for share in (8, 9)]
    # Reviews of one day lie on one side.
    return np.searchsorted(bounds, time, side="right").astype(np.int8)


def _files(path: Path, meta: str | os.PathLike[str] | None) -> tuple[Path, Path]:
    if not path.exists():
        raise DataError(f"amazon: {path}: no such file or folder")
    if not path.is_dir():
        if meta is None:
            raise DataError(
                f"amazon: {path} is no folder; give the file of the meta data too (meta=), or a "
                f"folder that has both"
            )
        return path, Path(meta).expanduser()
    files = [file for file in sorted(path.iterdir()) if _JSON.search(file.name)]
    metas = [file for file in files if file.name.startswith("meta")]
    reviews = [file for file in files if file not in metas]
    if meta is not None:
        metas = [Path(meta).expanduser()]
    if len(reviews) != 1 or len(metas) != 1:
        raise DataError(
            f"amazon: {path} should hold one file of reviews and one meta*.json, gzipped or not; "
            f"found {', '.join(file.name for file in files) or 'none'}"
        )
    return reviews[0], metas[0]


def _records(lines: Lines, wanted: set[str] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and content of each line; of items that are not wanted, none."""
    for numbers, block in lines.blocks():
        for number, line in zip(numbers, block):
            if wanted is not None:
                asins = [asin.decode() for asin in _ASIN.findall(line)]
                if asins and wanted.isdisjoint(asins):
                    continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                try:
                    # The meta data of 2014 is written as Python prints it.
                    record = ast.literal_eval(line.decode("utf-8", "replace"))
                except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                    record = None
            if isinstance(record, dict):
                yield number, record
            else:
                lines.reject(number, "expected a JSON object")


def _first(record: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((record[name] for name in names if record.get(name)), None)


def _reviews(path: Path) -> tuple[Factors, Factors, np.ndarray]:
    """User, item and Unix time [N] of each review, by user and time, repeated ones once."""
    lines = Lines("amazon", path)
    users, items, times = Factorizer(), Factorizer(), [np.zeros(0, np.int64)]
    found: list[tuple[str, str, int]] = []

    def keep() -> None:
        # Text as it is read takes ten times the memory of its codes.
        users.add([user for user, _, _ in found])
        items.add([item for _, item, _ in found])
        times.append(np.array([time for _, _, time in found], np.int64))
        found.clear()

    for number, record in _records(lines):
        user, item = _first(record, _USER), _first(record, _ITEM)
        time, unit = record.get("unixReviewTime"), 1
        if time is None:
            time, unit = record.get("timestamp"), 1000
        if not isinstance(user, str) or not isinstance(item, str):
            lines.reject(number, "expected a reviewerID (user_id) and an asin")
        # NaN is no number of seconds, nor is what int64 does not hold.
        elif isinstance(time, bool) or not (isinstance(time, (int, float)) and abs(time) < 2**62):
            lines.reject(number, "expected a number as unixReviewTime (timestamp)")
        else:
            found.append((user, item, math.floor(time) // unit))
            if len(found) == _ROWS:
                keep()
    lines.close()
    keep()
    user, item, time = users.factors(), items.factors(), np.concatenate(times)
    order = np.lexsort((item.codes, time, user.codes))
    user, item, time = user[order], item[order], time[order]
    same = (np.diff(user.codes) == 0) & (np.diff(item.codes) == 0) & (np.diff(time) == 0)
    new = np.append(True, ~same)
    return user[new], item[new], time[new]


def _categories(path: Path, wanted: set[str]) -> dict[str, str]:
    """The narrowest category of each wanted item that has one."""
    lines = Lines("amazon", path)
    found = {}
    for number, record in _records(lines, wanted):
        item = _first(record, _ITEM)
        if not isinstance(item, str):
            lines.reject(number, "expected an asin")
            continue
        category = _first(record, ("categories", "category", "main_category", "main_cat"))
        while isinstance(category, list):
            category = category[-1] if category else None
        if isinstance(category, str):
            found[item] = category
    lines.close()
    return found
