"""Regularization of embeddings by what a batch holds: its rows alone, each once (DIN)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from recops import ops
from recops._core import checks, compat
from recops._core.numerics import widened
from recops.layers.base import OpLayer, positive

REGULARIZED_ROWS = ("all", "batch")
# Rows that a batch looks up, where they are to be penalised, and what was found: [...], [...],
# [..., D].
UsedRows = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


def penalty_of_rows(regularizer: Any, used: Sequence[UsedRows], backend: str) -> tf.Tensor:
    """Penalty of the rows of one table that a batch looks up, each once.

        penalty = sum_r regularizer(w_r)      over the distinct rows r of the batch

    In these rows the gradient is that of the penalty of the whole table, and no other row has one.
    So a row is held back in the steps that use it, as much against its gradient from the data as by
    the whole table's penalty in the same step, and not in between. Over an epoch of S steps a row
    that n of them use is held back n times, not S: those in nearly all batches as by the whole
    table's penalty, and rare ones less. The number of places of an id in a batch does not count.

    Args:
      regularizer: a sum over elements or rows that gives 0 for 0, as L1, L2 and L1L2 of Keras.
      used: rows, which of them are penalised, and their values, lookup by lookup. All places of a
        row have one value; a row is penalised everywhere or nowhere.
      backend: of `recops.ops.row_sums`.

    Cost: the rows used, not the table: a grouping of the ids, two passes over the values.
    """
    first = _first_places([rows for rows, _, _ in used], backend)
    return tf.add_n(
        [
            regularizer(tf.where((here & kept)[..., None], *_or_zero(values)))
            for here, (_, kept, values) in zip(first, used)
        ]
    )


def _or_zero(values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    (wide,) = widened(values)
    return wide, tf.zeros([], wide.dtype)


def _first_places(parts: Sequence[tf.Tensor], backend: str) -> list[tf.Tensor]:
    """Where a row comes first in all parts together, in their shapes."""
    flat = [tf.cast(tf.reshape(rows, [-1]), tf.int64) for rows in parts]
    joined = flat[0] if len(flat) == 1 else tf.concat(flat, axis=0)
    # A row's sum stands in its first place, and zero in the others.
    counted = ops.row_sums(joined, tf.ones([tf.shape(joined)[0], 1]), backend=backend)
    first = tf.split(counted[:, 0] > 0, [tf.shape(rows)[0] for rows in flat])
    return [tf.reshape(here, tf.shape(rows)) for here, rows in zip(first, parts)]


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
        self.add_loss(self._penalty(ids, embeddings))
        return tf.cast(embeddings, self.compute_dtype)

    def _penalty(self, ids: tf.Tensor, embeddings: tf.Tensor) -> tf.Tensor:
        counts = tf.gather(compat.variable(self._weight), ids)[..., None]

        def weighed(values: tf.Tensor) -> tf.Tensor:
            squares = tf.square(values) / tf.cast(tf.maximum(counts, 1), values.dtype)
            return self.l2 / 2 * tf.reduce_sum(squares)

        return penalty_of_rows(weighed, [(ids, ids != 0, embeddings)], self.backend or "auto")

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
