"""Regularization of embeddings by what a batch holds (DIN)."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from recops._core import checks, compat
from recops._core.numerics import widened
from recops.layers.base import OpLayer, positive


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
        before the first step. An id that was never counted is taken as counted once.
      backend: taken by all layers of recops; no op runs in this one.

    Defaults: l2=0.01.

    Call: ids of any shape, int32 or int64, and embeddings [*ids.shape, D], what a lookup gave for
    them. Returns the embeddings, in their shape.

    Raises: ValueError for wrong shapes or counts, or a call before the counts are known.

    Cost: two passes over the embeddings and one number a row of the table.

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
        self.counts = None if counts is None else self._checked(np.asarray(counts))

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
        self.counts = found if self.counts is None else self.counts + found

    def _knows(self, ids: np.ndarray) -> bool:
        return ids.min(initial=0) >= 0 and ids.max(initial=0) <= self.vocabulary_size

    def call(self, ids: Any, embeddings: Any) -> tf.Tensor:
        if self.counts is None:
            raise ValueError("BatchAwareL2: give counts, or call adapt(ids of the training data)")
        ids = tf.convert_to_tensor(ids)
        embeddings = checks.floats("BatchAwareL2", "embeddings", embeddings, None)
        if embeddings.shape.rank != ids.shape.rank + 1:
            raise ValueError(
                f"BatchAwareL2: embeddings must be [*ids.shape, D], got "
                f"{checks.describe(embeddings)} for ids {checks.describe(ids)}"
            )
        self.add_loss(self._penalty(tf.reshape(ids, [-1]), embeddings))
        return tf.cast(embeddings, self.compute_dtype)

    def _penalty(self, ids: tf.Tensor, embeddings: tf.Tensor) -> tf.Tensor:
        (values,) = widened(tf.reshape(embeddings, [-1, embeddings.shape[-1]]))
        inverse = 1 / np.maximum(np.asarray(self.counts, np.float64), 1)
        inverse[0] = 0.0
        # An id's share is split among its places in the batch, so that each id counts once.
        rows = self.vocabulary_size + 1
        places = tf.math.unsorted_segment_sum(tf.ones_like(ids, values.dtype), ids, rows)
        share = tf.gather(tf.math.divide_no_nan(tf.constant(inverse, values.dtype), places), ids)
        squares = tf.reduce_sum(tf.square(values), axis=1)
        return self.l2 / 2 * tf.reduce_sum(squares * share)

    def compute_output_shape(self, ids_shape: Any, embeddings_shape: Any = None) -> Any:
        return tuple(embeddings_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "l2": self.l2,
            "counts": None if self.counts is None else self.counts.tolist(),
        }
