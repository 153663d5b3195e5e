"""DeepFM in stock Keras layers: what one writes without recops, and writes well.

The maths, initial distributions and penalties are those of `recops.models.DeepFM`; what differs is
that each field has an embedding layer of its own, or a lookup of its own in a common one. Only two
formulas have no stock layer.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from recops.features import DenseFeature, Feature, SequenceFeature

keras = tf.keras


class MaskedPooling(keras.layers.Layer):
    """Sum or mean of the embeddings of real ids. Stock pooling divides 0 by 0 for an empty list."""

    def __init__(self, combiner: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.combiner = combiner

    def call(self, embeddings: Any, ids: Any) -> Any:
        kept = tf.cast(ids != 0, embeddings.dtype)[..., None]  # [B, T, 1]
        total = tf.reduce_sum(embeddings * kept, axis=1)
        if self.combiner == "sum":
            return total
        return total / tf.maximum(tf.reduce_sum(kept, axis=1), 1)

    def compute_output_shape(self, embeddings_shape: Any, ids_shape: Any = None) -> Any:
        return (embeddings_shape[0], embeddings_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "combiner": self.combiner}


class SecondOrder(keras.layers.Layer):
    """Inner products of all pairs of fields, as the half of (square of sum - sum of squares)."""

    def call(self, embeddings: Any) -> Any:
        square_of_sum = tf.square(tf.reduce_sum(embeddings, axis=1))
        sum_of_squares = tf.reduce_sum(tf.square(embeddings), axis=1)
        return 0.5 * tf.reduce_sum(square_of_sum - sum_of_squares, axis=1, keepdims=True)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], 1)


def StockDeepFM(
    features: Sequence[Feature],
    hidden_units: Sequence[int] = (128, 64, 32),
    dropout: float = 0.0,
    l2_embedding: float = 0.0,
    seed: int | None = None,
    one_table: bool = False,
) -> Any:
    """DeepFM with an input for each feature, keyed by its name; sequences are pooled.

    With `one_table` all features have rows of one embedding layer, which Adam is done with faster
    where there are millions of them.
    """
    numbers = random.Random(seed)

    def next_seed() -> int | None:
        return None if seed is None else numbers.randrange(2**31)

    def dense(units: int, **options: Any) -> Any:
        glorot = keras.initializers.GlorotUniform(next_seed())
        return keras.layers.Dense(units, kernel_initializer=glorot, **options)

    def table(rows: int, width: int, name: str) -> Any:
        return keras.layers.Embedding(
            rows,
            width,
            embeddings_initializer=keras.initializers.RandomUniform(seed=next_seed()),
            embeddings_regularizer=keras.regularizers.L2(l2_embedding) if l2_embedding else None,
            name=name,
        )

    inputs = {feature.name: feature.input() for feature in features}
    sizes = [f.vocabulary_size + 1 for f in features if not isinstance(f, DenseFeature)]
    width = next(f.embedding_dim for f in features if not isinstance(f, DenseFeature))
    shared = table(sum(sizes), width, "embedding") if one_table else None
    fields: list[Any] = []
    for feature in features:
        if isinstance(feature, DenseFeature):
            continue
        ids = inputs[feature.name]
        if shared is not None:
            embedded = shared(ids + sum(sizes[: len(fields)]))
        else:
            rows = feature.vocabulary_size + 1
            embedded = table(rows, feature.embedding_dim, f"embedding_{feature.name}")(ids)
        if isinstance(feature, SequenceFeature):
            embedded = MaskedPooling(feature.combiner)(embedded, ids)
        fields.append(embedded)  # [B, D]
    flat = keras.layers.Concatenate()(fields)  # [B, F D]
    stacked = keras.layers.Reshape((len(fields), -1))(flat)  # [B, F, D]
    dense_inputs = [inputs[f.name] for f in features if isinstance(f, DenseFeature)]
    x = keras.layers.Concatenate()([flat, *dense_inputs]) if dense_inputs else flat

    first = dense(1, use_bias=False, name="linear")(x)
    second = SecondOrder()(stacked)
    deep = x
    for units in hidden_units:
        deep = dense(units, activation="relu")(deep)
        deep = keras.layers.Dropout(dropout, seed=next_seed())(deep)
    logit = keras.layers.Add()([first, second, dense(1, name="deep")(deep)])
    out = keras.layers.Activation("sigmoid", dtype="float32")(logit)
    return keras.Model(inputs, out, name="StockDeepFM")
