"""Regularization of embeddings by what a batch holds: its rows alone, each once (DIN)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import tensorflow as tf

from recops import ops
from recops._core import checks, compat, dispatch
from recops._core.compat import keras
from recops._core.numerics import widened
from recops.layers.base import OpLayer, positive

REGULARIZED_ROWS = ("all", "batch")
# Rows of a table that a batch looks up, where they are to be penalised, and what was found: [...],
# [...], [..., D]. All places of a row have one value, and are penalised or not alike.
UsedRows = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


class RowPenalty(OpLayer):
    """Penalty of the rows of one table that a batch looks up, which stands in for that of all rows.

        penalty = sum_r (steps / uses_r) (l1 |w_r|_1 + l2 |w_r|^2)   over the distinct rows r used

    uses_r is in how many of the training steps so far row r was used, this one included. A row that
    is in every m-th batch is held back m times as strongly when it is: over an epoch by what the
    penalty of the whole table holds it back, one step at a time, so that l1 and l2 mean the same.
    In between it does not move, and the gradient stays sparse. A row that no batch uses is never
    held back, where the penalty of the table would bring it to zero. How many places a row has in a
    batch does not matter. Outside training nothing is counted.

    Not called but asked by the layer of the table, whose loss the penalty is.

    Args:
      regularizer: L1, L2 or L1L2 of Keras.
      rows: of the table.
      backend: of `recops.ops.row_sums`; None leaves the choice to recops.

    Raises: ValueError for another regularizer, which may be no sum over rows.

    Cost: that of the rows used: a grouping of the ids and two passes over the values. State: one
    number a row. A row that several processes of a strategy use is one row, for which they tell
    each other their ids. Of several replicas in one process each penalises the rows of its own
    part, and the loss has the mean.
    """

    def __init__(self, regularizer: Any, rows: int, *, backend: str | None, **kwargs: Any) -> None:
        super().__init__(backend=backend, **kwargs)
        known = (keras.regularizers.L1, keras.regularizers.L2, keras.regularizers.L1L2)
        if not isinstance(regularizer, known):
            raise ValueError(
                f"regularized_rows='batch' needs a regularizer L1, L2 or L1L2 of Keras, got "
                f"{type(regularizer).__name__}; take regularized_rows='all'"
            )
        self.l1 = float(getattr(regularizer, "l1", 0.0))
        self.l2 = float(getattr(regularizer, "l2", 0.0))
        self.rows = rows

    def build(self, input_shape: Any = None) -> None:
        options = {"dtype": "float32", "initializer": "zeros", "trainable": False}
        self.uses = compat.add_table(self, name="uses", shape=(self.rows,), **options)
        self.steps = compat.add_table(self, name="steps", shape=(), **options)
        self.built = True

    def of(self, used: Sequence[UsedRows], training: Any) -> tf.Tensor:
        """The penalty of the rows used; in training they are counted first."""
        places = first_places([rows for rows, _, _ in used], self.backend or "auto")
        uses, steps = compat.variable(self.uses), compat.variable(self.steps)
        # Under Keras 2 it may be a tensor.
        if training is not None and training is not False:
            one = tf.cast(training, tf.float32)
            steps.assign_add(one)
            counts = one * tf.cast(places.first, tf.float32)
            uses.scatter_add(tf.IndexedSlices(counts, places.rows))
        terms = []
        for here, (rows, kept, values) in zip(places.here, used):
            values = only(here & kept, values)
            rarity = tf.maximum(steps, 1) / tf.maximum(tf.gather(uses, rows), 1)
            each = self.l2 * tf.square(values)
            if self.l1:
                each += self.l1 * tf.abs(values)
            terms.append(tf.reduce_sum(tf.cast(rarity, values.dtype)[..., None] * each))
        return places.replicas * tf.add_n(terms)


def penalizes(penalty: RowPenalty | None) -> TypeGuard[RowPenalty]:
    """Whether a layer's call has a penalty to tell of: a program that is served has none."""
    return penalty is not None and not dispatch.is_serving()


class Places(NamedTuple):
    """Where rows come first.

    `here` is of the rows that were asked for, in their shapes; `rows` and `first` are those of all
    processes, [n]. Keras takes the mean of what the replicas lose, so that what one of them loses
    for all counts `replicas` times.
    """

    here: list[tf.Tensor]
    rows: tf.Tensor
    first: tf.Tensor
    replicas: int


def first_places(parts: Sequence[tf.Tensor], backend: str) -> Places:
    """Where a row comes first in all parts of all processes together."""
    flat = [tf.cast(tf.reshape(rows, [-1]), tf.int64) for rows in parts]
    joined = flat[0] if len(flat) == 1 else tf.concat(flat, axis=0)
    context = tf.distribute.get_replica_context()
    # Several replicas of one process are threads that share what Keras knows of losses: while one
    # waited for the others' ids it would be given theirs. Each then penalises the rows of its part.
    replicas = context.num_replicas_in_sync if context else 1
    if replicas > 1 and len(context.strategy.extended.worker_devices) > 1:
        replicas = 1
    rows, own = joined, None
    if replicas > 1:
        # Each id with its replica, since these need not have as many.
        place = tf.cast(context.replica_id_in_sync_group, tf.int64)
        pairs = tf.stack([joined, tf.fill(tf.shape(joined), place)], axis=1)
        pairs = tf.ensure_shape(context.all_gather(pairs, axis=0), [None, 2])
        rows, replica = tf.unstack(pairs, axis=1)
        own = replica == place
    # A row's sum stands in its first place, and zero in the others.
    first = ops.row_sums(rows, tf.ones([tf.shape(rows)[0], 1]), backend=backend)[:, 0] > 0
    mine = first if own is None else tf.boolean_mask(first, own)
    split = tf.split(mine, [tf.shape(rows)[0] for rows in flat])
    here = [tf.reshape(each, tf.shape(rows)) for each, rows in zip(split, parts)]
    return Places(here, rows, first, replicas)


def only(kept: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Values [..., D], float32 at least, and 0 where they are not kept."""
    (wide,) = widened(values)
    return tf.where(kept[..., None], wide, tf.zeros([], wide.dtype))


@compat.serializable
class BatchAwareL2(OpLayer):
    """Mini-batch-aware L2 of embeddings (DIN): passes them on and adds the penalty to the model.

        penalty = l2 / 2 sum_j |w_j|^2 / n_j      over the distinct ids j != 0 of the batch

    n_j is how often id j occurs in the training data, so that rare ids are held back more. The
    gradient l2 w_j / n_j reaches the rows of the batch alone and stays sparse, where an
    `embeddings_regularizer` reads and moves the whole table in each step.

    Args:
      vocabulary_size: number of real ids V; ids run 0..V.
      l2: weight of the penalty.
      counts: n, [V + 1] numbers of 0 or more; None: call `adapt` with the ids of the training data
        before the first step. An id that was never counted is taken as counted once. They are a
        weight, which is saved with the others.
      backend: which backend groups the ids; None leaves the choice to recops.

    Defaults: l2=0.01.

    Call: ids of any shape, int32 or int64, and embeddings [*ids.shape, D], what a lookup gave for
    them. Returns the embeddings, in their shape.

    Raises: ValueError for wrong shapes or counts, or a call before the counts are known.

    Cost: a grouping of the ids and two passes over the embeddings, whatever the table.

    Source: Zhou et al., Deep Interest Network, KDD 2018, section 5.1, eq. 6.

    Example:
      >>> import numpy as np
      >>> layer = BatchAwareL2(vocabulary_size=3, l2=1.0, counts=[0, 2, 4, 1])
      >>> ids, embeddings = [1, 1, 2, 0], [[2.0], [2.0], [4.0], [9.0]]
      >>> _ = layer(np.array(ids), np.array(embeddings, "float32"))
      >>> float(layer.losses[0])  # (4 / 2 + 16 / 4) / 2
      3.0
    """

    def __init__(
        self,
        vocabulary_size: int,
        l2: float = 0.01,
        counts: Any = None,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        positive(self, vocabulary_size=vocabulary_size)
        self.vocabulary_size = vocabulary_size
        self.l2 = l2
        self._given = None if counts is None else self._checked(np.asarray(counts))
        self._weight: Any = None

    @property
    def counts(self) -> np.ndarray | None:
        """n, [V + 1], or None as long as they are not known."""
        if self._weight is None:
            return self._given
        return compat.as_tensor(self._weight).numpy()

    def build(self, ids_shape: Any = None, embeddings_shape: Any = None) -> None:
        if self._given is None:
            raise ValueError("BatchAwareL2: give counts, or call adapt(ids of the training data)")
        given = self._given
        self._weight = compat.add_table(
            self,
            name="counts",
            shape=(self.vocabulary_size + 1,),
            dtype="float32",
            initializer=lambda shape, dtype=None, **_: tf.constant(given, dtype or tf.float32),
            trainable=False,
        )
        self.built = True

    def _checked(self, counts: np.ndarray) -> np.ndarray:
        rows = self.vocabulary_size + 1
        if counts.shape != (rows,) or counts.dtype.kind not in "iuf" or not (counts >= 0).all():
            raise ValueError(
                f"BatchAwareL2: counts must be [{rows}] numbers of 0 or more, got dtype "
                f"{counts.dtype} with shape {list(counts.shape)}"
            )
        return counts

    def adapt(self, ids: Any) -> None:
        """Count ids of any shape; a further call adds to what was counted."""
        flat = np.asarray(ids).reshape(-1)
        if flat.dtype.kind not in "iu" or not self._knows(flat):
            raise ValueError(
                f"BatchAwareL2: adapt needs ids 0..{self.vocabulary_size}, got dtype {flat.dtype} "
                f"from {flat.min(initial=0)} to {flat.max(initial=0)}"
            )
        found = np.bincount(flat, minlength=self.vocabulary_size + 1)
        self._given = found if self.counts is None else self.counts + found
        if self._weight is not None:
            self._weight.assign(self._given)

    def _knows(self, ids: np.ndarray) -> bool:
        return ids.min(initial=0) >= 0 and ids.max(initial=0) <= self.vocabulary_size

    def call(self, ids: Any, embeddings: Any) -> tf.Tensor:
        ids = tf.convert_to_tensor(ids)
        embeddings = checks.floats("BatchAwareL2", "embeddings", embeddings, None)
        if embeddings.shape.rank != ids.shape.rank + 1:
            raise ValueError(
                f"BatchAwareL2: embeddings must be [*ids.shape, D], got "
                f"{checks.describe(embeddings)} for ids {checks.describe(ids)}"
            )
        if not dispatch.is_serving():
            self.add_loss(self._penalty(ids, embeddings))
        return tf.cast(embeddings, self.compute_dtype)

    def _penalty(self, ids: tf.Tensor, embeddings: tf.Tensor) -> tf.Tensor:
        counts = tf.maximum(tf.gather(compat.variable(self._weight), ids), 1)
        places = first_places([ids], self.backend or "auto")
        squares = tf.square(only(places.here[0] & (ids != 0), embeddings))
        total = tf.reduce_sum(squares / tf.cast(counts, squares.dtype)[..., None])
        return places.replicas * self.l2 / 2 * total

    def compute_output_shape(self, ids_shape: Any, embeddings_shape: Any = None) -> Any:
        return tuple(embeddings_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "l2": self.l2,
            # Once there is a weight, it is saved as one.
            "counts": None if self._weight is not None else _listed(self._given),
            "counted": self._weight is not None,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> BatchAwareL2:
        config = dict(config)
        counted = config.pop("counted", False)
        layer = cls(**config)
        if counted:
            layer._given = np.zeros([layer.vocabulary_size + 1])
        return layer


def _listed(counts: np.ndarray | None) -> list[float] | None:
    return None if counts is None else counts.tolist()
