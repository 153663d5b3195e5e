"""A data set ready for training: encoded arrays, their features, and batches of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

    from recops.features import Feature


@dataclass(frozen=True)
class Split:
    """Examples of one part of a data set.

    Args:
      inputs: feature name -> array: ids [N] int32, sequences [N, T] int32, numbers [N, dimension]
        float32. Integers are cast to int32, floats to float32.
      labels: [N] or [N, 1]; kept as [N, 1] float32. Of sequences [N, T].
      groups: [N], what GAUC groups by (the user); kept as int64.

    Raises: ValueError when lengths differ.

    Example:
      >>> part = Split({"item": [3, 1, 2]}, labels=[1, 0, 1], groups=[7, 7, 8])
      >>> len(part), part.labels.shape
      (3, (3, 1))
    """

    inputs: Mapping[str, np.ndarray]
    labels: np.ndarray
    groups: np.ndarray

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels, np.float32)
        labels = _frozen(labels if labels.ndim == 2 else labels.reshape(-1, 1))
        groups = _frozen(np.asarray(self.groups, np.int64).reshape(-1))
        inputs = {name: _input(name, values) for name, values in self.inputs.items()}
        for name, values in {**inputs, "groups": groups}.items():
            if len(values) != len(labels):
                raise ValueError(
                    f"Split: {name!r} has {len(values)} rows, but there are {len(labels)} labels"
                )
        object.__setattr__(self, "inputs", inputs)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "groups", groups)

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, names: Collection[str]) -> Split:
        """The same rows with the inputs of these names alone."""
        if missing := sorted(set(names).difference(self.inputs)):
            raise ValueError(
                f"Split.select: no input {missing[0]!r}; there are "
                f"{', '.join(map(repr, self.inputs)) or 'none'}"
            )
        if len(set(names)) == len(self.inputs):
            return self
        inputs = {name: values for name, values in self.inputs.items() if name in names}
        return replace(self, inputs=inputs)

    def check_feature(self, feature: Feature, split_name: str) -> None:
        """Raise ValueError unless the input of a feature fits it."""
        _check_values(feature, self.inputs[feature.name], split_name)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """Permutation of the rows that `batches` uses: a pure function of (seed, epoch)."""
        for name, value in (("seed", seed), ("epoch", epoch)):
            if value < 0:
                raise ValueError(f"Split.order: {name} must be 0 or more, got {value}")
        return np.random.default_rng([seed, epoch]).permutation(len(self))

    def batches(
        self,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
        drop_remainder: bool = False,
    ) -> tf.data.Dataset:
        """One epoch of (inputs, labels) batches.

        Args:
          batch_size: rows a batch; the last one is shorter unless `drop_remainder`.
          shuffle: draw rows in the order of `order(seed, epoch)`, so that a resumed run sees what
            an unbroken one would; otherwise in stored order.
          seed, epoch: of the shuffle. Iterating the result again repeats the same order.
          drop_remainder: leave out a last, shorter batch.

        Returns: tf.data.Dataset of (dict of [batch, ...] tensors, labels [batch, 1], or [batch, T]
        of sequences).

        Cost: one gather of rows a batch for all inputs of one integer a row, one for those of one
        number, and one a sequence; rows are never handled one by one. Batches are made beside the
        training, two or more ahead of it.
        """
        import tensorflow as tf

        if batch_size < 1:
            raise ValueError(f"Split.batches: batch_size must be 1 or more, got {batch_size}")
        full, rest = divmod(len(self), batch_size)
        steps = full if drop_remainder or not rest else full + 1
        packs = self._packs
        # Gathering on an accelerator would move every batch there and back.
        with tf.device("CPU:0"):
            order = tf.constant(self.order(seed, epoch), tf.int64) if shuffle else None

        def take(step: tf.Tensor) -> Any:
            start = step * batch_size
            stop = start + batch_size
            rows = None if order is None else order[start:stop]
            static = batch_size if drop_remainder else None
            found: dict[str | None, tf.Tensor] = {}
            for names, pack in packs:
                batch = pack[start:stop] if rows is None else tf.gather(pack, rows)
                batch = tf.ensure_shape(batch, [static, *pack.shape[1:]])
                parts = [batch] if len(names) == 1 else tf.unstack(batch, axis=1)
                found.update(zip(names, parts))
            inputs = {
                name: found[name][:, None] if values.shape[1:] == (1,) else found[name]
                for name, values in self.inputs.items()
            }
            labels = found[None]
            return inputs, labels[:, None] if labels.shape.rank == 1 else labels

        batches = tf.data.Dataset.range(steps).map(take, num_parallel_calls=1)
        return batches.prefetch(tf.data.AUTOTUNE)

    @cached_property
    def _packs(self) -> list[tuple[list[str | None], tf.Tensor]]:
        """All inputs, and the labels as None, as few tensors of rows.

        What has one value a row lies side by side by type, so that a row of dozens of such inputs
        is read from one place in memory. A tensor of several inputs is [N, inputs].
        """
        import tensorflow as tf

        packs: list[tuple[list[str | None], np.ndarray]] = []
        flat: dict[np.dtype, dict[str | None, np.ndarray]] = {}
        for name, values in (*self.inputs.items(), (None, self.labels)):
            if values.shape[1:] in ((), (1,)):
                flat.setdefault(values.dtype, {})[name] = values.reshape(-1)
            else:
                packs.append(([name], values))
        for group in flat.values():
            columns = list(group.values())
            packs.append((list(group), np.stack(columns, 1) if len(columns) > 1 else columns[0]))
        with tf.device("CPU:0"):
            return [(names, tf.constant(values)) for names, values in packs]


@dataclass(frozen=True)
class Resampled(Split):
    """Rows that are partly drawn at random, anew for every epoch: positives with their negatives.

    Args:
      inputs, labels, groups: rows [N, ...] of one draw, as in `Split`: what all but `batches` see.
      draw: (seed, epoch) -> Split with as many rows and at least these inputs, a pure function, so
        that a resumed run sees what an unbroken one would.

    Example:
      >>> one = Split({"item": [3, 1]}, labels=[1, 0], groups=[7, 7])
      >>> part = Resampled(one.inputs, one.labels, one.groups, draw=lambda seed, epoch: one)
      >>> len(part)
      2
    """

    draw: Callable[[int, int], Split]

    def batches(
        self,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
        drop_remainder: bool = False,
    ) -> tf.data.Dataset:
        """As `Split.batches`; with `shuffle` of the rows that are drawn for (seed, epoch)."""
        rows = self.draw(seed, epoch) if shuffle else Split(self.inputs, self.labels, self.groups)
        return rows.select(self.inputs).batches(batch_size, shuffle, seed, epoch, drop_remainder)


@dataclass(frozen=True)
class Dataset:
    """Train, validation and test splits of one task, and the features of their inputs.

    Args:
      train, validation, test: the splits.
      features: of their inputs. A split may have more inputs than that.
      task: how predictions are judged. "ranking": labels are clicks, each predicted by itself, by
        AUC. "retrieval": each row is a choice of `item` among all items. "leave_one_out": rows of a
        group stand together, all groups of validation and test are of one size, and each has one
        positive to be ranked above its negatives. "next_click": labels are the ids that follow, 0
        behind them, and the first of them, `item`, is judged among all.
      item: name of the feature that is to be found by all tasks but "ranking". An input
        `seen_` + item of validation, test and serving, [N, any] padded with 0, has the items that
        are no candidates any more.
      serving: a row for each user as of after all that is known, to query a model with; grouped by
        user; its labels say nothing.
      values: feature name -> [V + 1], what each id stands for; 0 is unknown.

    Defaults: task="ranking", item="item".

    Raises: ValueError when a split lacks a feature, an input has the wrong shape or type, or an
      id lies outside its feature's vocabulary.

    Example:
      >>> from recops.features import SparseFeature
      >>> part = Split({"item": [3, 1, 2]}, labels=[1, 0, 1], groups=[7, 7, 8])
      >>> data = Dataset(part, part, part, [SparseFeature("item", vocabulary_size=3)])
      >>> len(data.train)
      3
    """

    train: Split
    validation: Split
    test: Split
    features: Sequence[Feature]
    task: str = "ranking"
    item: str = "item"
    serving: Split | None = None
    values: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", list(self.features))
        self.check()

    def select(self, names: Collection[str]) -> Dataset:
        """The same rows with the features of these names alone."""
        return replace(
            self,
            train=self.train.select(names),
            validation=self.validation.select(names),
            test=self.test.select(names),
            serving=None if self.serving is None else self.serving.select(names),
            features=[feature for feature in self.features if feature.name in names],
        )

    def check(self) -> None:
        """Raise ValueError unless every split fits the features."""
        for split_name in ("train", "validation", "test", "serving"):
            split = getattr(self, split_name)
            if split is None:
                continue
            inputs = split.inputs
            for feature in self.features:
                if feature.name not in inputs:
                    raise ValueError(
                        f"Dataset: the {split_name} split lacks the feature {feature.name!r}; "
                        f"it has {', '.join(map(repr, inputs)) or 'no inputs'}"
                    )
                split.check_feature(feature, split_name)


def _check_values(feature: Feature, values: np.ndarray, split_name: str) -> None:
    from recops.features import DenseFeature, SequenceFeature

    where = f"Dataset: feature {feature.name!r} in the {split_name} split"
    shapes: tuple[tuple[int, ...], ...] = ((),)
    if isinstance(feature, DenseFeature):
        # One number a row may come without an axis of its own.
        shapes = ((feature.dimension,), ()) if feature.dimension == 1 else ((feature.dimension,),)
    elif isinstance(feature, SequenceFeature):
        sessions = () if feature.sessions is None else (feature.sessions,)
        shapes = ((*sessions, feature.max_length),)
    if values.shape[1:] not in shapes:
        expected = ", ".join(map(str, ("N", *shapes[0])))
        raise ValueError(f"{where}: expected shape [{expected}], got {list(values.shape)}")
    if isinstance(feature, DenseFeature):
        if not np.issubdtype(values.dtype, np.floating):
            raise ValueError(f"{where}: expected float32, got {values.dtype}")
        return
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"{where}: expected integer ids, got {values.dtype}")
    if not values.size:
        return
    for bad in (int(values.min()), int(values.max())):
        if not 0 <= bad <= feature.vocabulary_size:
            raise ValueError(
                f"{where}: id {bad} is outside 0..{feature.vocabulary_size} "
                f"(vocabulary_size {feature.vocabulary_size}; 0 is unknown or padding)"
            )


def _input(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim == 0:
        raise ValueError(f"Split: {name!r} must have a first axis of rows, got a single number")
    if np.issubdtype(array.dtype, np.integer):
        # A cast would wrap an id beyond int32 into one that may pass for valid.
        if array.size and not -(2**31) <= int(array.min()) <= int(array.max()) < 2**31:
            raise ValueError(f"Split: {name!r} holds ids beyond int32, up to {int(array.max())}")
        return _frozen(array.astype(np.int32))
    if np.issubdtype(array.dtype, np.floating):
        return _frozen(array.astype(np.float32))
    raise ValueError(f"Split: {name!r} must hold integers or floats, got dtype {array.dtype}")


def _frozen(array: np.ndarray) -> np.ndarray:
    # Batches read a copy made once, so a later change in place would go unseen.
    view = array.view()
    view.flags.writeable = False
    return view
