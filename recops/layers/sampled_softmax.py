"""Layer of the softmax over sampled items, which holds the items' vectors."""

from __future__ import annotations

import random
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
import tensorflow as tf

from recops import ops
from recops._core import checks, compat
from recops._core.compat import keras
from recops.layers.base import OpLayer, build_child, positive
from recops.layers.regularization import REGULARIZED_ROWS, RowPenalty
from recops.ops.sampled_softmax.samplers import SAMPLERS, AliasTable, alias_table


@compat.serializable
class SampledSoftmax(OpLayer):
    """Loss of each example over its label and sampled items: [B, D], [B] -> [B, 1].

    See `recops.ops.sampled_softmax`. The output is a loss: compile the model with
    `recops.losses.identity`, and `fit` weighs examples by `sample_weight` as always.

    Args:
      vocabulary_size: number of real items V; the table has V + 1 rows, labels run 0..V.
      num_sampled: items drawn for each batch.
      sampler: "uniform", "log_uniform" (items in order of falling frequency) or "frequency".
      counts: [V + 1], how often each item occurs, for "frequency". What is drawn from is made of
        them and saved with the weights, not in the config, which has V + 1 in their place: a layer
        made with that number draws nothing yet, and its losses are NaN, until weights are loaded.
      distortion: exponent of the counts.
      remove_accidental_hits: leave a drawn item out where it is the label.
      use_bias: whether each item has a bias.
      embeddings_initializer, embeddings_regularizer: as in `keras.layers.Embedding`.
      regularized_rows: "all", whose penalty reads and moves the whole table in each step, or
        "batch": the rows of the labels alone, without id 0, those in every m-th batch m times as
        strongly. The gradient then stays sparse; see `RowPenalty`.
      seed: of the draws; each call draws anew, as a function of the seed and of how many calls
        there were, which is saved with the weights.
      backend: which backend runs; None leaves the choice to recops.

    Defaults: sampler="log_uniform", distortion=0.75, remove_accidental_hits=True, use_bias=False,
    embeddings_initializer="uniform", regularized_rows="all".

    Call: inputs [B, D], float, and labels [B], int32 or int64; `sampled` as in the op, in place of
    a draw. Returns [B, 1], float32.

    Source: Jean et al., On Using Very Large Target Vocabulary, ACL 2015.

    Example:
      >>> import numpy as np
      >>> layer = SampledSoftmax(vocabulary_size=1000, num_sampled=20)
      >>> layer(np.ones((4, 8), "float32"), np.array([1, 2, 3, 4])).shape
      TensorShape([4, 1])
      >>> layer.embeddings.shape
      TensorShape([1001, 8])
    """

    def __init__(
        self,
        vocabulary_size: int,
        num_sampled: int,
        sampler: str = "log_uniform",
        counts: Any = None,
        distortion: float = 0.75,
        remove_accidental_hits: bool = True,
        use_bias: bool = False,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        seed: int | None = None,
        regularized_rows: str = "all",
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        positive(self, vocabulary_size=vocabulary_size, num_sampled=num_sampled)
        self.vocabulary_size = vocabulary_size
        self.num_sampled = num_sampled
        self.sampler = checks.choice("SampledSoftmax", "sampler", sampler, SAMPLERS)
        rows = vocabulary_size + 1
        if sampler == "frequency" and counts is None:
            raise ValueError("SampledSoftmax: sampler 'frequency' needs counts [V + 1], got None")
        if isinstance(counts, Integral) and counts != rows:
            raise ValueError(
                f"SampledSoftmax: counts must be {rows} numbers, or {rows} where weights are to be "
                f"loaded, got {counts!r}"
            )
        # None where saved weights are to bring what would be made of them.
        known = sampler == "frequency" and not isinstance(counts, Integral)
        self._counts = np.asarray(counts) if known else None
        self.distortion = distortion
        self.remove_accidental_hits = remove_accidental_hits
        self.use_bias = use_bias
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)
        self.embeddings_regularizer = keras.regularizers.get(embeddings_regularizer)
        self.seed = random.randrange(2**31) if seed is None else seed
        self.regularized_rows = checks.choice(
            "SampledSoftmax", "regularized_rows", regularized_rows, REGULARIZED_ROWS
        )
        self.penalty = None
        if regularized_rows == "batch" and self.embeddings_regularizer is not None:
            regularizer = self.embeddings_regularizer
            rows = vocabulary_size + 1
            self.penalty = RowPenalty(regularizer, rows, backend=backend, name="penalty")

    def build(self, inputs_shape: Any, labels_shape: Any = None) -> None:
        rows, dim = self.vocabulary_size + 1, tuple(inputs_shape)[-1]
        self.embeddings = compat.add_table(
            self,
            name="embeddings",
            shape=(rows, dim),
            initializer=self.embeddings_initializer,
            regularizer=None if self.penalty else self.embeddings_regularizer,
        )
        if self.penalty is not None:
            build_child(self.penalty, inputs_shape)
        self.bias = None
        if self.use_bias:
            self.bias = compat.add_table(self, name="bias", shape=(rows,), initializer="zeros")
        self.calls = self.add_weight(
            name="calls", shape=(), dtype="int32", initializer="zeros", trainable=False
        )
        self.table = self._alias_table(rows) if self.sampler == "frequency" else None
        self.built = True

    def _alias_table(self, rows: int) -> AliasTable:
        """Weights to draw from: 16 bytes an item."""
        parts = AliasTable(np.zeros(rows - 1), np.zeros(rows - 1, np.int64), np.full(rows, np.nan))
        if self._counts is not None:
            parts = alias_table(type(self).__name__, self._counts, self.distortion, rows)
        dtypes = AliasTable("float32", "int64", "float32")
        weights = (
            compat.add_table(
                self,
                name=name,
                shape=part.shape,
                dtype=dtype,
                initializer=_constant(part),
                trainable=False,
            )
            for name, part, dtype in zip(AliasTable._fields, parts, dtypes)
        )
        return AliasTable(*weights)

    def load_own_variables(self, store: Any) -> None:
        """As Keras does; of a file whose config has the counts and which lacks the tables too."""
        weights = [*self.trainable_weights, *self.non_trainable_weights]
        if self._counts is None or len(store.keys()) != len(weights) - len(AliasTable._fields):
            super().load_own_variables(store)
            return
        for place in range(len(store.keys())):
            weights[place].assign(store[str(place)])

    def call(
        self, inputs: Any, labels: Any, sampled: Any = None, training: Any = None
    ) -> tf.Tensor:
        table = compat.variable(self.embeddings)
        number = compat.as_tensor(self.calls)
        if sampled is None:
            self.calls.assign(number + 1)
        loss = ops.sampled_softmax(
            tf.cast(inputs, table.dtype),
            labels,
            table,
            self.bias,
            num_sampled=self.num_sampled,
            sampler=self.sampler,
            counts=self.table and AliasTable(*map(compat.variable, self.table)),
            distortion=self.distortion,
            remove_accidental_hits=self.remove_accidental_hits,
            sampled=sampled,
            seed=tf.stack([tf.constant(self.seed), number]),
            backend=self.backend or "auto",
        )
        if self.penalty is not None:
            ids = checks.ids("SampledSoftmax", "labels", labels, "B")[:, None]
            found = ops.embedding_lookup(table, ids, backend=self.backend or "auto")
            self.add_loss(self.penalty.of([(ids, ids != 0, found)], training))
        return tf.cast(loss, tf.float32)[:, None]

    def compute_output_shape(self, inputs_shape: Any, labels_shape: Any = None) -> Any:
        return (inputs_shape[0], 1)

    def compute_output_spec(self, inputs: Any, *_: Any, **__: Any) -> Any:
        """Keras 3's: a loss is float32 under every policy."""
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "num_sampled": self.num_sampled,
            "sampler": self.sampler,
            "counts": self.vocabulary_size + 1 if self.sampler == "frequency" else None,
            "distortion": self.distortion,
            "remove_accidental_hits": self.remove_accidental_hits,
            "use_bias": self.use_bias,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
            "embeddings_regularizer": keras.regularizers.serialize(self.embeddings_regularizer),
            "seed": self.seed,
            "regularized_rows": self.regularized_rows,
        }


def _constant(value: np.ndarray) -> Callable[..., tf.Tensor]:
    """An initializer that gives `value`."""

    def initialize(shape: Any, dtype: Any = None, **_: Any) -> tf.Tensor:
        return tf.constant(value, dtype)

    return initialize
