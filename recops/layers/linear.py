"""First-order layers: a weight for each id and number, and for crosses of them (wide)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import tensorflow as tf

from recops import ops
from recops._core import checks, compat
from recops._core.compat import keras
from recops.features import DenseFeature, Feature, SparseFeature, check, from_config, to_config
from recops.layers.base import OpLayer, build_child, positive
from recops.layers.embedding import FusedEmbedding, known_ids
from recops.layers.regularization import REGULARIZED_ROWS, RowPenalty, penalizes

# A linear hash modulo a Mersenne prime: ids and multipliers below 2^31 keep int64 from overflowing.
_PRIME = 2**31 - 1
_MULTIPLIER = 48271


@compat.serializable
class Linear(OpLayer):
    """First-order term: {name: ids or numbers} -> [B, units].

        out[b] = bias + sum_f w[id of field f] + sum_n v_n x[b, n]

    The weights of all ids are one table, read by one gather. A sequence adds the combination of
    its ids' weights by its combiner.

    Args:
      features: any features, or their configs.
      use_bias: whether there is a bias.
      l1, l2: penalties of all weights but the bias.
      kernel_initializer: of v.
      units: how many first-order terms.
      embeddings_initializer: of the ids' weights w.
      regularized_rows: whose weights w are penalised, "all" or "batch"; see `FusedEmbedding`.
      backend: which backend runs; None leaves the choice to recops.

    Defaults: use_bias=True, l1=0.0, l2=0.0, kernel_initializer="glorot_uniform", units=1,
    embeddings_initializer="zeros", regularized_rows="all".

    Call: inputs is a dict with each feature's ids, as for `FusedEmbedding`, or numbers
    [B, dimension], float. Returns [B, units] in the compute dtype.

    Example:
      >>> import numpy as np
      >>> from recops.features import DenseFeature, SparseFeature
      >>> layer = Linear([SparseFeature("item", 100), DenseFeature("price")])
      >>> layer({"item": np.array([7]), "price": np.array([[0.5]], "float32")}).shape
      TensorShape([1, 1])
      >>> layer.count_params()
      103
    """

    def __init__(
        self,
        features: Sequence[Feature | dict[str, Any]],
        use_bias: bool = True,
        l1: float = 0.0,
        l2: float = 0.0,
        kernel_initializer: Any = "glorot_uniform",
        units: int = 1,
        embeddings_initializer: Any = "zeros",
        regularized_rows: str = "all",
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        positive(self, units=units)
        self.units = units
        self.regularized_rows = checks.choice(
            "Linear", "regularized_rows", regularized_rows, REGULARIZED_ROWS
        )
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)
        self.features = tuple(check(from_config(features)))
        self.use_bias = use_bias
        self.l1 = l1
        self.l2 = l2
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self._numbers = [f for f in self.features if isinstance(f, DenseFeature)]
        fields = [
            replace(f, embedding_dim=units)
            for f in self.features
            if not isinstance(f, DenseFeature)
        ]
        self.table = None
        if fields:
            self.table = FusedEmbedding(
                fields,
                embeddings_initializer=self.embeddings_initializer,
                embeddings_regularizer=_penalty(l1, l2),
                regularized_rows=regularized_rows,
                backend=backend,
                name="table",
                dtype=self.dtype_policy,
            )

    def build(self, input_shape: Any = None) -> None:
        if self.table is not None:
            build_child(self.table, input_shape)
        width = sum(feature.dimension for feature in self._numbers)
        if width:
            self.kernel = self.add_weight(
                name="kernel",
                shape=(width, self.units),
                initializer=self.kernel_initializer,
                regularizer=_penalty(self.l1, self.l2),
            )
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")
        self.built = True

    def call(self, inputs: Mapping[str, Any]) -> tf.Tensor:
        terms = []
        if self.table is not None:
            terms.append(tf.reduce_sum(self.table(inputs), axis=1))
        if self._numbers:
            columns = [_column("Linear", inputs, feature) for feature in self._numbers]
            kernel = compat.as_tensor(self.kernel)
            terms.append(tf.matmul(tf.cast(tf.concat(columns, axis=1), kernel.dtype), kernel))
        total = tf.add_n(terms)  # [B, units]
        return total + compat.as_tensor(self.bias) if self.use_bias else total

    def compute_output_shape(self, input_shape: Mapping[str, Any]) -> tuple[int | None, ...]:
        return (input_shape[self.features[0].name][0], self.units)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "features": to_config(self.features),
            "use_bias": self.use_bias,
            "l1": self.l1,
            "l2": self.l2,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "units": self.units,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
            "regularized_rows": self.regularized_rows,
        }


@compat.serializable
class WideCrosses(OpLayer):
    """First-order term of crossed features (wide part): {name: ids or numbers} -> [B, 1].

        out[b] = sum_c w_c[combination of the cross's ids] * product of the cross's numbers

    A cross is the product of its features: of one-hot features it is the one-hot combination. All
    combinations are one table of width 1, read by one gather. A cross of more combinations than
    `num_buckets` is hashed into that many rows.

    Args:
      features: the features that crosses name, or their configs; others may be among them.
      crosses: names of two or more sparse features or dense features of dimension 1, a tuple each.
      num_buckets: most rows of one cross.
      l1, l2: penalties of the weights.
      regularized_rows: whose weights are penalised: "all", which reads and moves the whole table in
        each step, or those of the "batch", where the gradient stays sparse. A cross has no padding:
        the combination of all ids 0 is one like the others.
      backend: which backend runs; None leaves the choice to recops.

    Defaults: num_buckets=100000, l1=0.0, l2=0.0, regularized_rows="all".

    Call: inputs is a dict with ids [B] of each sparse feature that is crossed and numbers [B, 1] of
    each dense one. Returns [B, 1] in the compute dtype.

    Source: Cheng et al., Wide & Deep Learning, DLRS 2016, eq. 1.

    Example:
      >>> import numpy as np
      >>> from recops.features import SparseFeature
      >>> features = [SparseFeature("gender", 2), SparseFeature("genre", 18)]
      >>> wide = WideCrosses(features, crosses=[("gender", "genre")])
      >>> wide({"gender": np.array([1]), "genre": np.array([5])}).numpy(), wide.count_params()
      (array([[0.]], dtype=float32), 57)
    """

    def __init__(
        self,
        features: Sequence[Feature | dict[str, Any]],
        crosses: Sequence[Sequence[str]],
        num_buckets: int = 100_000,
        l1: float = 0.0,
        l2: float = 0.0,
        regularized_rows: str = "all",
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        positive(self, num_buckets=num_buckets)
        self.regularized_rows = checks.choice(
            "WideCrosses", "regularized_rows", regularized_rows, REGULARIZED_ROWS
        )
        self.features = tuple(check(from_config(features)))
        self.crosses = tuple(tuple(cross) for cross in crosses)
        self.num_buckets = num_buckets
        self.l1 = l1
        self.l2 = l2
        self._parts = [_crossed(cross, self.features) for cross in self.crosses]
        if not self._parts:
            raise ValueError("WideCrosses: crosses must hold at least one cross, got none")
        self._rows = [
            min(prod(f.vocabulary_size + 1 for f in sparse), num_buckets)
            for sparse, _ in self._parts
        ]
        self.penalty = None
        if regularized_rows == "batch" and (l1 or l2):
            regularizer = _penalty(l1, l2)
            rows = sum(self._rows)
            self.penalty = RowPenalty(regularizer, rows, backend=backend, name="penalty")

    def build(self, input_shape: Any = None) -> None:
        self.weight = compat.add_table(
            self,
            name="weight",
            shape=(sum(self._rows), 1),
            initializer="zeros",
            regularizer=None if self.penalty else _penalty(self.l1, self.l2),
        )
        if self.penalty is not None:
            build_child(self.penalty, input_shape)
        self.built = True

    def call(self, inputs: Mapping[str, Any], training: Any = None) -> tf.Tensor:
        batch = tf.shape(inputs[self.crosses[0][0]])[0]
        ids = [
            self._combined(inputs, sparse, rows, batch)
            for (sparse, _), rows in zip(self._parts, self._rows)
        ]
        offsets = np.cumsum([0, *self._rows[:-1]])
        table = compat.variable(self.weight)
        combined = tf.stack(ids, axis=1)
        weights = ops.embedding_lookup(
            table, combined, offsets, backend=self.backend or "auto"
        )  # [B, C, 1]
        if penalizes(self.penalty):
            used = (combined + offsets, combined >= 0, weights)
            self.add_loss(self.penalty.of([used], training))
        terms = [
            tf.cast(weights[:, c], self.compute_dtype) * self._product(inputs, numbers)
            for c, (_, numbers) in enumerate(self._parts)
        ]
        return tf.add_n(terms)

    def _combined(
        self,
        inputs: Mapping[str, Any],
        sparse: Sequence[SparseFeature],
        rows: int,
        batch: tf.Tensor,
    ) -> tf.Tensor:
        """Row of the combination of the sparse features' ids, [B]; -1 where an id is unknown."""
        if not sparse:
            return tf.zeros([batch], tf.int64)
        exact = rows == prod(feature.vocabulary_size + 1 for feature in sparse)
        combined, valid = tf.constant(0, tf.int64), tf.constant(True)
        for place, feature in enumerate(sparse):
            where = f"WideCrosses({feature.name!r})"
            ids = checks.ids("WideCrosses", repr(feature.name), _take(inputs, feature), "B")
            ids = known_ids(where, tf.cast(ids, tf.int64)[:, None], feature.vocabulary_size)[:, 0]
            valid &= ids >= 0
            if exact:
                combined = combined * (feature.vocabulary_size + 1) + ids
            else:
                combined += ids * pow(_MULTIPLIER, place + 1, _PRIME) % _PRIME
        combined = combined if exact else combined % _PRIME % rows
        return tf.where(valid, combined, -1)

    def _product(self, inputs: Mapping[str, Any], numbers: Sequence[DenseFeature]) -> Any:
        columns = [_column("WideCrosses", inputs, feature) for feature in numbers]
        return prod(tf.cast(column, self.compute_dtype) for column in columns)

    def compute_output_shape(self, input_shape: Mapping[str, Any]) -> tuple[int | None, ...]:
        return (input_shape[self.crosses[0][0]][0], 1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "features": to_config(self.features),
            "crosses": [list(cross) for cross in self.crosses],
            "num_buckets": self.num_buckets,
            "l1": self.l1,
            "l2": self.l2,
            "regularized_rows": self.regularized_rows,
        }


def _penalty(l1: float, l2: float) -> Any:
    # Even a penalty of 0 would read the whole table.
    return keras.regularizers.L1L2(l1, l2) if l1 or l2 else None


def _take(inputs: Mapping[str, Any], feature: Feature) -> Any:
    if feature.name not in inputs:
        raise ValueError(
            f"the batch lacks the feature {feature.name!r}; it has "
            f"{', '.join(map(repr, inputs)) or 'nothing'}"
        )
    return inputs[feature.name]


def _column(layer: str, inputs: Mapping[str, Any], feature: DenseFeature) -> tf.Tensor:
    """Numbers of a dense feature, [B, dimension]."""
    value = compat.as_tensor(_take(inputs, feature))
    if value.shape.rank == 1 and feature.dimension == 1:
        value = value[:, None]
    return checks.floats(layer, repr(feature.name), value, f"B {feature.dimension}")


def _crossed(
    cross: Sequence[str], features: Sequence[Feature]
) -> tuple[list[SparseFeature], list[DenseFeature]]:
    """The sparse and the dense features that a cross names."""
    named = {feature.name: feature for feature in features}
    if len(cross) < 2 or len(set(cross)) != len(cross):
        raise ValueError(
            f"WideCrosses: a cross must name two or more different features, got {tuple(cross)!r}"
        )
    for name in cross:
        feature = named.get(name)
        fits = isinstance(feature, SparseFeature) or (
            isinstance(feature, DenseFeature) and feature.dimension == 1
        )
        if not fits:
            raise ValueError(
                f"WideCrosses: the cross {tuple(cross)!r} must name sparse features or dense "
                f"features of dimension 1, got {name!r}: {feature or 'no such feature'}"
            )
    chosen = [named[name] for name in cross]
    return (
        [feature for feature in chosen if isinstance(feature, SparseFeature)],
        [feature for feature in chosen if isinstance(feature, DenseFeature)],
    )
