"""Embedding layers: all fields of a batch from one table, and pooled bags of ids."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from recops import ops
from recops._core import checks, compat
from recops._core.compat import keras
from recops.features import (
    COMBINERS,
    DenseFeature,
    Feature,
    SequenceFeature,
    SparseFeature,
    check,
    from_config,
    table_of,
    tables,
    to_config,
)
from recops.layers.base import OpLayer, build_child, positive
from recops.layers.regularization import REGULARIZED_ROWS, RowPenalty, UsedRows, penalizes
from recops.ops.embedding.rows import bag_rows

Field = SparseFeature | SequenceFeature


@compat.serializable
class FusedEmbedding(OpLayer):
    """Embeddings of all fields from one table: {name: ids} -> [B, F, D].

    The tables of all features lie one below the other in a single weight, so that the sparse
    features cost one gather, not one each. Features that share a table share its rows. A sequence
    is pooled by its combiner over ids != 0 into one field. Fields stand in the order of `features`.

    With `join=False` the fields stay apart, {name: ids} -> {name: embedding}, and a history or its
    negatives (`target`, `negative_of` or `sessions` given) keeps its steps, for attention over
    them. Candidate, history and negatives then come from one gather.

    Args:
      features: `SparseFeature`s and `SequenceFeature`s of one embedding_dim, or their configs.
      embeddings_initializer, embeddings_regularizer: as in `keras.layers.Embedding`.
      join: stack the fields; else return them by name.
      regularized_rows: "all", whose penalty reads and moves the whole table in each step, or
        "batch": the rows that the batch looks up alone, those in every m-th batch m times as
        strongly, without those of id 0. The gradient then stays sparse; see `RowPenalty`.
      backend: which backend runs; None leaves the choice to recops.

    Defaults: embeddings_initializer="uniform", join=True, regularized_rows="all".

    Call: inputs is a dict with, for each feature's name, ids [B] of a sparse feature, [B, T] or
    [B, K, T] of a sequence, int32 or int64; other keys are ignored. Returns [B, F, D] in the
    compute dtype; an empty sequence gives zeros. With join=False a dict: [B, D] of a sparse
    feature or a pooled sequence, [B, T, D] or [B, K, T, D] by step, where padding has the
    embedding of id 0: see `PaddingMask`.

    Raises: ValueError for a dense feature, unequal widths, or a name that the batch lacks;
    InvalidArgumentError for an id beyond the vocabulary (inside jit_compile=True by backend `cpp`
    alone; NaN by the others, and in a graph for a GPU).

    Example:
      >>> import numpy as np
      >>> from recops.features import SequenceFeature, SparseFeature
      >>> item = SparseFeature("item", 100, embedding_dim=4)
      >>> history = SequenceFeature("seen", 100, max_length=3, embedding_dim=4, target="item")
      >>> layer = FusedEmbedding([item, history])
      >>> batch = {"item": np.array([7, 9]), "seen": np.array([[1, 2, 0], [0, 0, 0]])}
      >>> layer(batch).shape, layer.count_params()
      (TensorShape([2, 2, 4]), 404)
    """

    def __init__(
        self,
        features: Sequence[Feature | dict[str, Any]],
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        join: bool = True,
        regularized_rows: str = "all",
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        self.features = _fields(features)
        self.join = join
        self.regularized_rows = checks.choice(
            "FusedEmbedding", "regularized_rows", regularized_rows, REGULARIZED_ROWS
        )
        self.embedding_dim = _one_width(self.features)
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)
        self.embeddings_regularizer = keras.regularizers.get(embeddings_regularizer)
        self._by_id = [f for f in self.features if (not join and _by_step(f)) or _is_sparse(f)]
        self._starts, self.rows = _stack(self.features, self._by_id)
        self.penalty = None
        if regularized_rows == "batch" and self.embeddings_regularizer is not None:
            options = {"backend": backend, "name": "penalty"}
            self.penalty = RowPenalty(self.embeddings_regularizer, self.rows, **options)

    def build(self, input_shape: Any = None) -> None:
        self.embeddings = compat.add_table(
            self,
            name="embeddings",
            shape=(self.rows, self.embedding_dim),
            initializer=self.embeddings_initializer,
            regularizer=None if self.penalty else self.embeddings_regularizer,
        )
        if self.penalty is not None:
            build_child(self.penalty, input_shape)
        self.built = True

    def call(self, inputs: Mapping[str, Any], training: Any = None) -> Any:
        table = compat.variable(self.embeddings)
        used: list[UsedRows] = []
        fields = (self._joined if self.join else self._apart)(table, inputs, used)
        if penalizes(self.penalty):
            self.add_loss(self.penalty.of(used, training))
        return fields

    def _joined(self, table: Any, inputs: Mapping[str, Any], used: list[UsedRows]) -> tf.Tensor:
        sparse = self._sparse(table, inputs, used)
        fields = []
        for kind, run in _runs(self.features):
            if kind is SparseFeature:
                fields.append(next(sparse))
            else:
                fields += [self._pooled(table, inputs, f, used)[:, None] for f in run]
        joined = fields[0] if len(fields) == 1 else tf.concat(fields, axis=1)  # [B, F, D]
        return tf.cast(joined, self.compute_dtype)

    def _apart(
        self, table: Any, inputs: Mapping[str, Any], used: list[UsedRows]
    ) -> dict[str, tf.Tensor]:
        """Every field by name; all that are not pooled come from one gather."""
        shapes = [_steps(feature) for feature in self._by_id]
        columns = [math.prod(shape) for shape in shapes]
        ids = _one_dtype(
            [
                tf.reshape(self._ids(inputs, feature, " ".join(["B", *map(str, shape)])), [-1, n])
                for feature, shape, n in zip(self._by_id, shapes, columns)
            ]
        )
        starts = np.array([self._starts[feature.name] for feature in self._by_id], np.int64)
        found = self._looked_up(table, tf.concat(ids, axis=1), np.repeat(starts, columns), used)
        found = tf.cast(found, self.compute_dtype)
        fields = {
            feature.name: tf.reshape(part, [-1, *shape, self.embedding_dim])
            for feature, shape, part in zip(self._by_id, shapes, tf.split(found, columns, axis=1))
        }
        for feature in self.features:
            if isinstance(feature, SequenceFeature) and feature.name not in fields:
                pooled = self._pooled(table, inputs, feature, used)
                fields[feature.name] = tf.cast(pooled, self.compute_dtype)
        return fields

    def _backend(self) -> str:
        return self.backend or "auto"

    def _looked_up(
        self, table: Any, ids: tf.Tensor, offsets: np.ndarray, used: list[UsedRows]
    ) -> tf.Tensor:
        found = ops.embedding_lookup(table, ids, offsets, backend=self._backend())
        if penalizes(self.penalty):
            used.append((ids + tf.constant(offsets, ids.dtype), ids != 0, found))
        return found

    def _sparse(
        self, table: Any, inputs: Mapping[str, Any], used: list[UsedRows]
    ) -> Iterator[tf.Tensor]:
        """One gather for all sparse features, cut where a sequence stands between them."""
        if not self._by_id:
            return iter(())
        ids = _one_dtype([self._ids(inputs, feature, "B") for feature in self._by_id])
        offsets = np.array([self._starts[feature.name] for feature in self._by_id], np.int64)
        found = self._looked_up(table, tf.stack(ids, axis=1), offsets, used)
        runs = [len(list(run)) for kind, run in _runs(self.features) if kind is SparseFeature]
        return iter([found] if len(runs) == 1 else tf.split(found, runs, axis=1))

    def _pooled(
        self,
        table: Any,
        inputs: Mapping[str, Any],
        feature: SequenceFeature,
        used: list[UsedRows],
    ) -> tf.Tensor:
        ids = self._ids(inputs, feature, "B T" if feature.sessions is None else "B K T")
        if feature.sessions is not None:
            ids = tf.reshape(ids, [-1, feature.sessions * feature.max_length])
        ids = known_ids(f"{type(self).__name__}({feature.name!r})", ids, feature.vocabulary_size)
        rows = tf.where(ids >= 0, ids + self._starts[feature.name], -1)
        if penalizes(self.penalty):
            # A pooled sum has the single rows no more.
            known = tf.maximum(rows, 0)
            found = ops.embedding_lookup(table, known, backend=self._backend())
            used.append((known, ids > 0, found))
        return ops.embedding_bag(
            table, rows, ids != 0, None, feature.combiner, backend=self._backend()
        )

    def _ids(self, inputs: Mapping[str, Any], feature: Field, axes: str) -> tf.Tensor:
        if feature.name not in inputs:
            raise ValueError(
                f"{type(self).__name__}: the batch lacks the feature {feature.name!r}; it has "
                f"{', '.join(map(repr, inputs)) or 'nothing'}"
            )
        return checks.ids(type(self).__name__, repr(feature.name), inputs[feature.name], axes)

    def compute_output_shape(self, input_shape: Mapping[str, Any]) -> Any:
        batch = input_shape[self.features[0].name][0]
        if self.join:
            return (batch, len(self.features), self.embedding_dim)
        return {
            feature.name: (
                batch,
                *(_steps(feature) if feature in self._by_id else ()),
                self.embedding_dim,
            )
            for feature in self.features
        }

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "features": to_config(self.features),
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
            "embeddings_regularizer": keras.regularizers.serialize(self.embeddings_regularizer),
            "join": self.join,
            "regularized_rows": self.regularized_rows,
        }


def _is_sparse(feature: Field) -> bool:
    return isinstance(feature, SparseFeature)


def _by_step(feature: Field) -> bool:
    """Whether attention may look at the single steps: a behaviour, not a list of tags."""
    return isinstance(feature, SequenceFeature) and bool(
        feature.target or feature.negative_of or feature.sessions
    )


def _steps(feature: Field) -> tuple[int, ...]:
    """Axes of a feature's ids after the batch."""
    if isinstance(feature, SparseFeature):
        return ()
    return (*((feature.sessions,) if feature.sessions else ()), feature.max_length)


def _runs(features: Sequence[Field]) -> Iterator[tuple[type, Iterator[Any]]]:
    return itertools.groupby(features, key=type)


def _fields(features: Sequence[Feature | dict[str, Any]]) -> tuple[Field, ...]:
    """The features, none of them dense."""
    fields: list[Field] = []
    for feature in check(from_config(features)):
        if isinstance(feature, DenseFeature):
            raise ValueError(
                f"FusedEmbedding: {feature.name!r} is a DenseFeature, which has no embedding; "
                f"leave it out and concatenate its values after the embeddings"
            )
        fields.append(feature)
    return tuple(fields)


def _one_width(features: Sequence[Field]) -> int:
    """The embedding_dim of all features."""
    widths = {feature.name: feature.embedding_dim for feature in features}
    if len(set(widths.values())) > 1:
        raise ValueError(
            f"FusedEmbedding: all features must have one embedding_dim to stand in one table, got "
            f"{', '.join(f'{name!r}: {width}' for name, width in widths.items())}"
        )
    return features[0].embedding_dim


def _stack(features: Sequence[Field], by_id: Sequence[Field]) -> tuple[dict[str, int], int]:
    """First row of each feature's table, and the rows of all tables together.

    Tables that only pooled sequences read come first: then the rows of a field that is looked up
    id by id end where the next one's begin, which is how `embedding_lookup` knows an id beyond its
    vocabulary.
    """
    looked_up = {table_of(feature, features) for feature in by_id}
    sizes = sorted(tables(features).items(), key=lambda item: item[0] in looked_up)
    first, rows = {}, 0
    for table, size in sizes:
        first[table] = rows
        rows += size
    return {feature.name: first[table_of(feature, features)] for feature in features}, rows


def known_ids(where: str, ids: tf.Tensor, vocabulary_size: int) -> tf.Tensor:
    """Ids [B, T] that the vocabulary has; another raises, or is -1 where nothing can raise.

    An op on a table of many features knows its end only, and would read another feature's row.
    """
    ids, valid = bag_rows(where, ids, tf.constant(vocabulary_size + 1))
    return tf.where(valid, ids, -1)


def _one_dtype(ids: list[tf.Tensor]) -> list[tf.Tensor]:
    if len({tensor.dtype for tensor in ids}) == 1:
        return ids
    return [tf.cast(tensor, tf.int64) for tensor in ids]


@compat.serializable
class EmbeddingBag(OpLayer):
    """Pooled embedding of a list of ids: [B, T] -> [B, D]. See `recops.ops.embedding_bag`.

    Args:
      vocabulary_size: number of real ids V; the table has V + 1 rows, ids run 0..V.
      embedding_dim: D.
      combiner: "mean", "sum" or "sqrtn".
      mask_zero: where no mask is given, id 0 is padding and takes no part.
      embeddings_initializer, embeddings_regularizer: as in `keras.layers.Embedding`.
      backend: which backend runs; None leaves the choice to recops.

    Defaults: combiner="mean", mask_zero=True, embeddings_initializer="uniform".

    Call: inputs [B, T], int32 or int64; mask [B, T] bool, True = keep, or None; weights [B, T]
    float, or None. Returns [B, D] in the compute dtype; an empty bag gives zeros.

    Example:
      >>> import numpy as np
      >>> bag = EmbeddingBag(vocabulary_size=9, embedding_dim=2, embeddings_initializer="ones")
      >>> bag(np.array([[3, 4, 0], [0, 0, 0]])).numpy()
      array([[1., 1.],
             [0., 0.]], dtype=float32)
    """

    def __init__(
        self,
        vocabulary_size: int,
        embedding_dim: int,
        combiner: str = "mean",
        mask_zero: bool = True,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        positive(self, vocabulary_size=vocabulary_size, embedding_dim=embedding_dim)
        self.vocabulary_size = vocabulary_size
        self.embedding_dim = embedding_dim
        self.combiner = checks.choice("EmbeddingBag", "combiner", combiner, COMBINERS)
        self.mask_zero = mask_zero
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)
        self.embeddings_regularizer = keras.regularizers.get(embeddings_regularizer)

    def build(self, input_shape: Any = None) -> None:
        self.embeddings = compat.add_table(
            self,
            name="embeddings",
            shape=(self.vocabulary_size + 1, self.embedding_dim),
            initializer=self.embeddings_initializer,
            regularizer=self.embeddings_regularizer,
        )
        self.built = True

    def call(self, inputs: Any, mask: Any = None, weights: Any = None) -> tf.Tensor:
        ids = checks.ids("EmbeddingBag", "inputs", inputs, "B T")
        if mask is None and self.mask_zero:
            mask = ids != 0
        table = compat.variable(self.embeddings)
        if weights is not None:
            weights = tf.cast(weights, table.dtype)
        pooled = ops.embedding_bag(
            table, ids, mask, weights, self.combiner, backend=self.backend or "auto"
        )
        return tf.cast(pooled, self.compute_dtype)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        return None

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (input_shape[0], self.embedding_dim)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "embedding_dim": self.embedding_dim,
            "combiner": self.combiner,
            "mask_zero": self.mask_zero,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
            "embeddings_regularizer": keras.regularizers.serialize(self.embeddings_regularizer),
        }
