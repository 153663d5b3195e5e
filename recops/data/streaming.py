"""A split that lies in Parquet shards: batches of it are read as they are needed."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recops.data.dataset import Split
from recops.data.shards import arrow, shape_of
from recops.data.sources import DataError

if TYPE_CHECKING:
    import tensorflow as tf

    from recops.features import Feature


@dataclass(frozen=True)
class Shard:
    """A Parquet file: its path, and the rows of each of its row groups."""

    path: Path
    groups: tuple[int, ...]


# A row group: the place of its shard among all, and its own in the shard.
_Group = tuple[int, int]


class Stream(Split):
    """A split whose rows lie in shards.

    `batches` reads what it needs. Who takes `inputs[name]`, `labels` or `groups` reads that column
    whole, as an array.

    Args:
      shards: the files.
      features: whose inputs the batches have.
      label, group: names of these columns; without a group all rows are one.
      interleave: row groups that are in memory, and shuffled, together.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        features: Sequence[Feature],
        label: str,
        group: str | None,
        interleave: int,
    ) -> None:
        # A frozen dataclass has no other way.
        for name, value in (
            ("shards", tuple(shards)),
            ("features", tuple(features)),
            ("label", label),
            ("group", group),
            ("interleave", interleave),
        ):
            object.__setattr__(self, name, value)

    shards: tuple[Shard, ...]
    features: tuple[Feature, ...]
    label: str
    group: str | None
    interleave: int

    def __len__(self) -> int:
        return sum(sum(shard.groups) for shard in self.shards)

    def __repr__(self) -> str:
        return f"Stream({len(self)} rows in {len(self.shards)} shards)"

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    @property
    def inputs(self) -> Mapping[str, np.ndarray]:
        """Feature name -> array, read when it is asked for."""
        return _Inputs(self)

    @property
    def labels(self) -> np.ndarray:
        """[N, 1] float32, read when it is asked for."""
        return self._column(self.label, np.float32).reshape(-1, 1)

    @property
    def groups(self) -> np.ndarray:
        """[N] int64, read when it is asked for."""
        if self.group is None:
            return np.zeros(len(self), np.int64)
        return self._column(self.group, np.int64)

    def select(self, names: Collection[str]) -> Stream:
        """The same rows with the inputs of these names alone."""
        known = [feature.name for feature in self.features]
        if missing := sorted(set(names).difference(known)):
            raise ValueError(
                f"Split.select: no input {missing[0]!r}; there are {', '.join(map(repr, known))}"
            )
        kept = [feature for feature in self.features if feature.name in names]
        return Stream(self.shards, kept, self.label, self.group, self.interleave)

    def by_shard(self) -> Iterator[Stream]:
        """Each shard as a split of its own."""
        for shard in self.shards:
            yield Stream([shard], self.features, self.label, self.group, self.interleave)

    def of_worker(self, worker: int, workers: int) -> Stream:
        """The rows of one of so many processes: every `workers`-th shard."""
        if not 0 <= worker < workers:
            raise ValueError(f"stream: worker must be 0 to {workers - 1}, got {worker}")
        if workers > len(self.shards):
            raise ValueError(
                f"stream: {workers} workers need as many shards of train, there are "
                f"{len(self.shards)}; encode with fewer --shard-rows"
            )
        shards = self.shards[worker::workers]
        return Stream(shards, self.features, self.label, self.group, self.interleave)

    def check_feature(self, feature: Feature, split_name: str) -> None:
        """Nothing: the columns of shards are checked when these are opened."""

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """Numbers of the rows in stored order, as `batches` shuffles them."""
        starts = np.cumsum([0, *(sum(shard.groups) for shard in self.shards)])
        found = [np.zeros(0, np.int64)]
        for number, window in enumerate(self._windows((seed, epoch))):
            rows = [
                starts[shard] + sum(self.shards[shard].groups[:group]) + np.arange(size)
                for (shard, group) in window
                for size in (self.shards[shard].groups[group],)
            ]
            joined = np.concatenate(rows)
            found.append(joined[_shuffled(len(joined), seed, epoch, number)])
        return np.concatenate(found)

    def batches(
        self,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
        drop_remainder: bool = False,
        start: int = 0,
    ) -> tf.data.Dataset:
        """One epoch of (inputs, labels) batches, as `Split.batches`, read beside the training.

        Args:
          batch_size, drop_remainder: as of `Split.batches`.
          shuffle: the shards are drawn in an order of their own for (seed, epoch); `interleave` row
            groups of as many of them are read at a time, and their rows are shuffled together.
          seed, epoch: of the shuffle, which is a function of them alone.
          start: batches to leave out, without reading them: what follows is what an unbroken epoch
            has behind so many.

        Returns: tf.data.Dataset of (dict of [batch, ...] tensors, labels [batch, 1]).
        """
        import tensorflow as tf

        for name, value, least in (("batch_size", batch_size, 1), ("start", start, 0)):
            if value < least:
                raise ValueError(f"Split.batches: {name} must be {least} or more, got {value}")
        windows = self._windows((seed, epoch) if shuffle else None)
        sizes = [sum(self.shards[s].groups[g] for s, g in window) for window in windows]
        ends = np.cumsum([0, *sizes])
        left_out = min(start * batch_size, len(self))
        first = int(np.searchsorted(ends, left_out, side="right")) - 1
        skip = left_out - int(ends[first])
        columns = [*(feature.name for feature in self.features), self.label]
        shapes = [*(shape_of(feature) for feature in self.features), ()]
        types = [_type_of(feature) for feature in self.features] + [np.dtype(np.float32)]

        def load(number: np.int64) -> list[np.ndarray]:
            window = int(number)
            order = _shuffled(sizes[window], seed, epoch, window) if shuffle else None
            rows = self._read(windows[window], columns, order)
            return [values[skip:] for values in rows] if window == first else rows

        def read(number: tf.Tensor) -> list[tf.Tensor]:
            found = tf.numpy_function(load, [number], types)
            return [tf.ensure_shape(x, [None, *shape]) for x, shape in zip(found, shapes)]

        def named(*found: tf.Tensor) -> Any:
            return dict(zip(columns[:-1], found[:-1])), found[-1][:, None]

        rows = len(self) - left_out
        steps = rows // batch_size if drop_remainder else -(-rows // batch_size)
        batches = tf.data.Dataset.range(first, len(windows) if rows else first)
        batches = batches.map(lambda number: tuple(read(number)), num_parallel_calls=1)
        batches = batches.rebatch(batch_size, drop_remainder=drop_remainder)
        batches = batches.map(named).apply(tf.data.experimental.assert_cardinality(steps))
        options = tf.data.Options()
        # Each worker opens shards of its own, and no other process can call this one's Python.
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        return batches.with_options(options).prefetch(tf.data.AUTOTUNE)

    def _windows(self, drawn: tuple[int, int] | None) -> list[list[_Group]]:
        """Row groups that are read together, in the order of an epoch; None is stored order."""
        if drawn is None:
            return [
                [(place, group)]
                for place, shard in enumerate(self.shards)
                for group in range(len(shard.groups))
            ]
        for name, value in zip(("seed", "epoch"), drawn):
            if value < 0:
                raise ValueError(f"Split.order: {name} must be 0 or more, got {value}")
        generator = np.random.default_rng(drawn)
        waiting = iter(generator.permutation(len(self.shards)).tolist())

        def opened(shard: int) -> Iterator[_Group]:
            groups = generator.permutation(len(self.shards[shard].groups)).tolist()
            return iter([(shard, group) for group in groups])

        turns = [opened(shard) for shard in itertools.islice(waiting, self.interleave)]
        order: list[_Group] = []
        while turns:
            for place, groups in enumerate(turns):
                if (group := next(groups, None)) is not None:
                    order.append(group)
                elif (shard := next(waiting, None)) is not None:
                    turns[place] = opened(shard)
                else:
                    turns.remove(groups)
                    break
        size = self.interleave
        return [order[at : at + size] for at in range(0, len(order), size)]

    def _read(
        self, window: Sequence[_Group], names: Sequence[str], order: np.ndarray | None = None
    ) -> list[np.ndarray]:
        """Columns of row groups, one after the other, or their rows in an order."""
        ends = np.cumsum([0, *(self.shards[place].groups[group] for place, group in window)])
        targets: Any = [slice(start, stop) for start, stop in itertools.pairwise(ends)]
        if order is not None:
            # Each value goes to its place at once: a gather would need all of them side by side.
            placed = np.empty_like(order)
            placed[order] = np.arange(len(order))
            targets = [placed[rows] for rows in targets]
        made: list[np.ndarray] = []
        for (place, group), target in zip(window, targets):
            columns = self._group(self.shards[place].path, group, names)
            if order is None and len(window) == 1:
                return columns
            if not made:
                made = [np.empty((ends[-1], *c.shape[1:]), c.dtype) for c in columns]
            for column, values in zip(made, columns):
                column[target] = values
        return made

    def _group(self, path: Path, group: int, names: Sequence[str]) -> list[np.ndarray]:
        pq = arrow("stream", "pyarrow.parquet")
        by_name = {feature.name: feature for feature in self.features}
        try:
            with pq.ParquetFile(path, memory_map=True) as file:
                table = file.read_row_group(group, columns=list(names), use_threads=False)
            found = []
            for name in names:
                kind = np.int64 if name == self.group else np.float32
                found.append(_array(table.column(name), by_name.get(name), np.dtype(kind)))
            return found
        except Exception as error:
            # TensorFlow tells a user of a ValueError without the way that it took.
            raise ValueError(
                f"stream: {path} cannot be read ({str(error).splitlines()[0]}); it is damaged: "
                f"encode its source again"
            ) from error

    def _column(self, name: str, kind: Any) -> np.ndarray:
        feature = next((f for f in self.features if f.name == name), None)
        shape = () if feature is None else shape_of(feature)
        made = np.empty((len(self), *shape), kind)
        start = 0
        for window in self._windows(None):
            (values,) = self._read(window, [name])
            made[start : start + len(values)] = values
            start += len(values)
        made.flags.writeable = False
        return made


class _Inputs(Mapping[str, np.ndarray]):
    """The columns of a stream by name, each read whole when it is asked for."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._features = {feature.name: feature for feature in stream.features}

    def __getitem__(self, name: str) -> np.ndarray:
        return self._stream._column(name, _type_of(self._features[name]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._features)

    def __len__(self) -> int:
        return len(self._features)

    def __contains__(self, name: object) -> bool:
        return name in self._features


def _type_of(feature: Feature) -> np.dtype:
    from recops.features import DenseFeature

    return np.dtype(np.float32 if isinstance(feature, DenseFeature) else np.int32)


def _shuffled(rows: int, seed: int, epoch: int, window: int) -> np.ndarray:
    # The first number tells it from the draw of the shards.
    return np.random.default_rng([1, seed, epoch, window]).permutation(rows)


def _array(column: Any, feature: Feature | None, kind: np.dtype) -> np.ndarray:
    """A column of a table as the array that a model reads; without a feature, of this type."""
    pa = arrow("stream")
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    if array.null_count:
        raise DataError(f"the column {column._name!r} has missing values")
    shape = () if feature is None else shape_of(feature)
    kind = kind if feature is None else _type_of(feature)
    if not shape:
        return array.to_numpy(zero_copy_only=False).astype(kind, copy=False)
    size = int(np.prod(shape, dtype=np.int64))
    values = array.flatten().to_numpy(zero_copy_only=False).astype(kind, copy=False)
    if not pa.types.is_fixed_size_list(array.type):
        values = _padded(values, np.diff(array.offsets.to_numpy()), size)
    return values.reshape(len(array), *shape)


def _padded(values: np.ndarray, lengths: np.ndarray, size: int) -> np.ndarray:
    """[N, size] the first values of lists of any length, and 0 behind them."""
    row = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(values)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    made = np.zeros((len(lengths), size), values.dtype)
    made[row[place < size], place[place < size]] = values[place < size]
    return made
