"""DIN and AutoInt in stock Keras layers, as one writes them well; DIEN's is among the examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from stock_deepfm import MaskedPooling
from stock_dien import Attention, Dice, IsReal

from recops.features import DenseFeature, Feature, SequenceFeature, table_of, tables

keras = tf.keras


class Pooled(keras.layers.Layer):
    """Steps [B, T, D] summed by their weights [B, T]."""

    def call(self, steps: Any, weights: Any) -> Any:
        return tf.squeeze(tf.matmul(weights[:, None], steps), axis=1)


class NumberEmbedding(keras.layers.Layer):
    """Each number times a vector of its own: [B, n] -> [B, n, D]."""

    def __init__(self, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim = dim

    def build(self, input_shape: Any) -> None:
        self.vectors = self.add_weight(
            name="vectors", shape=(input_shape[-1], self.dim), initializer="uniform"
        )
        self.built = True

    def call(self, numbers: Any) -> Any:
        return numbers[:, :, None] * self.vectors


class Interacting(keras.layers.Layer):
    """AutoInt's layer: unscaled self-attention of heads, a residual matrix, ReLU."""

    def __init__(self, heads: int, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads, self.dim = heads, dim
        self.projections = [
            keras.layers.Dense(heads * dim, use_bias=False, name=name)
            for name in ("query", "key", "value", "residual")
        ]

    def call(self, x: Any) -> Any:
        fields = x.shape[1]
        query, key, value, residual = (dense(x) for dense in self.projections)
        query, key, value = (
            tf.transpose(tf.reshape(t, [-1, fields, self.heads, self.dim]), [0, 2, 1, 3])
            for t in (query, key, value)
        )
        weights = tf.nn.softmax(tf.matmul(query, key, transpose_b=True))
        out = tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])
        return tf.nn.relu(tf.reshape(out, [-1, fields, self.heads * self.dim]) + residual)


def embedded_of(features: Sequence[Feature], inputs: dict[str, Any]) -> dict[str, Any]:
    """Embedding of each feature that has ids, one Keras layer a table."""
    layers = {
        table: keras.layers.Embedding(rows, features[0].embedding_dim, name=f"embedding_{table}")
        for table, rows in tables(features).items()
    }
    return {f.name: layers[table_of(f, features)](inputs[f.name]) for f in features}


def StockDIN(features: Sequence[Feature], hidden_units: Sequence[int] = (200, 80)) -> Any:
    """DIN: attention by tile and concatenation, then Dice layers."""
    features = [
        f
        for f in features
        if not (isinstance(f, SequenceFeature) and (f.negative_of or f.sessions))
    ]
    inputs = {feature.name: feature.input() for feature in features}
    embedded = embedded_of(features, inputs)
    fields = []
    for feature in features:
        steps = embedded[feature.name]
        if not isinstance(feature, SequenceFeature):
            fields.append(steps)
        elif feature.target is None:
            fields.append(MaskedPooling(feature.combiner)(steps, inputs[feature.name]))
        else:
            real = IsReal()(inputs[feature.name])
            weights = Attention((80, 40), (None,) * 3)(embedded[feature.target], steps, real)
            fields.append(Pooled()(steps, weights))
    x = keras.layers.BatchNormalization()(keras.layers.Concatenate()(fields))
    for units in hidden_units:
        x = Dice()(keras.layers.Dense(units)(x))
    return keras.Model(
        inputs, keras.layers.Dense(1, "sigmoid", dtype="float32")(x), name="StockDIN"
    )


def StockAutoInt(
    features: Sequence[Feature], num_layers: int = 3, num_heads: int = 2, head_dim: int = 8
) -> Any:
    """AutoInt without a deep part; numbers join the fields."""
    inputs = {feature.name: feature.input() for feature in features}
    sparse = [f for f in features if not isinstance(f, DenseFeature)]
    embedded = embedded_of(sparse, inputs)
    fields = [keras.layers.Reshape((1, -1))(embedded[f.name]) for f in sparse]
    numbers = [inputs[f.name] for f in features if isinstance(f, DenseFeature)]
    joined = keras.layers.Concatenate()(numbers)
    fields.append(NumberEmbedding(sparse[0].embedding_dim)(joined))
    x = keras.layers.Concatenate(axis=1)(fields)
    for _ in range(num_layers):
        x = Interacting(num_heads, head_dim)(x)
    out = keras.layers.Dense(1, "sigmoid", dtype="float32")(keras.layers.Flatten()(x))
    return keras.Model(inputs, out, name="StockAutoInt")
