"""DIEN in stock Keras layers: what one writes without recops, and writes well.

The maths, initial distributions and penalties are those of `recops.models.DIEN`. Keras has the GRU
of the interests; the cell whose gate an attention scales, the attention itself and the auxiliary
loss have no stock layer and stand here.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from stock_deepfm import MaskedPooling

from recops.features import DenseFeature, Feature, SequenceFeature, table_of, tables

keras = tf.keras


def _network(units: Sequence[int], seeds: Sequence[int | None], bias: bool = True) -> list[Any]:
    """Dense layers with a sigmoid each, and one number at the end, with a bias or without."""
    *hidden, last = [keras.initializers.GlorotUniform(seed) for seed in seeds]
    return [
        *(
            keras.layers.Dense(n, "sigmoid", kernel_initializer=glorot)
            for n, glorot in zip(units, hidden)
        ),
        keras.layers.Dense(1, use_bias=bias, kernel_initializer=last),
    ]


class Dice(keras.layers.Layer):
    """PReLU whose kink is where batch normalization has its zero."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.normalization = keras.layers.BatchNormalization(
            center=False, scale=False, epsilon=1e-9
        )

    def build(self, input_shape: Any) -> None:
        self.normalization.build(input_shape)
        self.alpha = self.add_weight(name="alpha", shape=(input_shape[-1],), initializer="zeros")
        self.built = True

    def call(self, x: Any, training: Any = None) -> Any:
        gate = tf.sigmoid(self.normalization(x, training=training))
        return gate * x + (1 - gate) * self.alpha * x


class IsReal(keras.layers.Layer):
    """Which ids are no padding."""

    def call(self, ids: Any) -> Any:
        return ids != 0


class Attention(keras.layers.Layer):
    """DIN's score of each step for a target, normalized over the real steps."""

    def __init__(
        self, hidden_units: Sequence[int], seeds: Sequence[int | None], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        # A softmax does not see a bias.
        self.dense = _network(hidden_units, seeds, bias=False)

    def call(self, target: Any, steps: Any, real: Any) -> Any:
        query = tf.repeat(target[:, None], tf.shape(steps)[1], axis=1)  # [B, T, D]
        x = tf.concat([query, steps, query - steps, query * steps], axis=2)
        for dense in self.dense:
            x = dense(x)
        scores = tf.where(real, x[..., 0], x.dtype.min)
        return tf.where(real, tf.nn.softmax(scores), 0.0)


class Scored(keras.layers.Layer):
    """The score of each step as one more column."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, steps: Any, scores: Any) -> Any:
        return tf.concat([steps, scores[..., None]], axis=2)


class AUGRUCell(keras.layers.Layer):
    """A step of the GRU whose update is scaled by a score, the last column of its input."""

    def __init__(self, units: int, seeds: Sequence[int | None], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = units
        self.kernel_initializer = keras.initializers.GlorotUniform(seeds[0])
        self.recurrent_initializer = keras.initializers.Orthogonal(seed=seeds[1])

    def build(self, input_shape: Any) -> None:
        shape = (input_shape[-1] - 1, 3 * self.units)
        self.kernel = self.add_weight(
            name="kernel", shape=shape, initializer=self.kernel_initializer
        )
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel",
            shape=(self.units, 3 * self.units),
            initializer=self.recurrent_initializer,
        )
        self.bias = self.add_weight(name="bias", shape=shape[1:], initializer="zeros")
        self.built = True

    def call(self, inputs: Any, states: Any) -> Any:
        h, score, units = states[0], inputs[:, -1:], self.units
        projected = tf.matmul(inputs[:, :-1], self.kernel) + self.bias
        recurrent = tf.convert_to_tensor(self.recurrent_kernel)
        gates = projected[:, : 2 * units] + tf.matmul(h, recurrent[:, : 2 * units])
        z, r = tf.split(tf.sigmoid(gates), 2, axis=1)
        inner = tf.matmul(r * h, recurrent[:, 2 * units :])
        update = score * (1 - z)
        h = (1 - update) * h + update * tf.tanh(projected[:, 2 * units :] + inner)
        return h, [h]


class AuxiliaryLoss(keras.layers.Layer):
    """Passes interests on and adds the loss by which each tells the next click from another."""

    def __init__(self, units: Sequence[int], seeds: Sequence[int | None], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.dense = _network(units, seeds)

    def call(self, interests: Any, clicks: Any, others: Any, real: Any) -> Any:
        pairs = tf.cast(real[:, :-1] & real[:, 1:], tf.float32)
        terms = tf.zeros_like(pairs)
        for behaviors, labels in ((clicks, tf.ones_like(pairs)), (others, tf.zeros_like(pairs))):
            x = tf.concat([interests[:, :-1], behaviors[:, 1:]], axis=2)
            for dense in self.dense:
                x = dense(x)
            terms += tf.nn.sigmoid_cross_entropy_with_logits(labels, tf.cast(x[..., 0], tf.float32))
        total = tf.reduce_sum(terms * pairs)
        self.add_loss(tf.math.divide_no_nan(total, tf.reduce_sum(pairs)))
        return interests


def StockDIEN(
    features: Sequence[Feature],
    hidden_units: Sequence[int] = (200, 80),
    attention_units: Sequence[int] = (80, 40),
    auxiliary_units: Sequence[int] = (100, 50),
    activation: str = "dice",
    use_bn: bool = True,
    dropout: float = 0.0,
    l2_embedding: float = 0.0,
    reset_after: bool = False,
    seed: int | None = None,
) -> Any:
    """DIEN with an input for each feature, keyed by its name, and an embedding for each table."""
    features = [f for f in features if getattr(f, "sessions", None) is None]
    numbers = random.Random(seed)

    def seeds(count: int) -> list[int | None]:
        return [None if seed is None else numbers.randrange(2**31) for _ in range(count)]

    embeddings = {
        table: keras.layers.Embedding(
            rows,
            next(f.embedding_dim for f in features if _reads(f, table, features)),
            embeddings_initializer=keras.initializers.RandomUniform(seed=seeds(1)[0]),
            embeddings_regularizer=keras.regularizers.L2(l2_embedding) if l2_embedding else None,
            name=f"embedding_{table}",
        )
        for table, rows in tables(features).items()
    }
    inputs = {feature.name: feature.input() for feature in features}
    embedded = {
        feature.name: embeddings[table_of(feature, features)](inputs[feature.name])
        for feature in features
        if not isinstance(feature, DenseFeature)
    }
    fields, evolved = [], []
    for feature in features:
        if isinstance(feature, DenseFeature) or getattr(feature, "negative_of", None):
            continue
        steps = embedded[feature.name]
        if not isinstance(feature, SequenceFeature):
            fields.append(steps)
        elif feature.target is None:
            fields.append(MaskedPooling(feature.combiner)(steps, inputs[feature.name]))
        else:
            others = next(f.name for f in features if _is_of(f, feature))
            real = IsReal()(inputs[feature.name])
            kernel, recurrent = seeds(2)
            interests = keras.layers.GRU(
                feature.embedding_dim,
                return_sequences=True,
                reset_after=reset_after,
                kernel_initializer=keras.initializers.GlorotUniform(kernel),
                recurrent_initializer=keras.initializers.Orthogonal(seed=recurrent),
                name=f"interests_{feature.name}",
            )(steps, mask=real)
            interests = AuxiliaryLoss(
                auxiliary_units, seeds(len(auxiliary_units) + 1), name=f"loss_{feature.name}"
            )(interests, steps, embedded[others], real)
            scores = Attention(
                attention_units,
                seeds(len(attention_units) + 1),
                name=f"attention_{feature.name}",
            )(embedded[feature.target], interests, real)
            cell = AUGRUCell(feature.embedding_dim, seeds(2))
            evolution = keras.layers.RNN(cell, name=f"evolution_{feature.name}")
            evolved.append(evolution(Scored()(interests, scores), mask=real))
    dense_inputs = [inputs[f.name] for f in features if isinstance(f, DenseFeature)]
    x = keras.layers.Concatenate()([*fields, *evolved, *dense_inputs])
    if use_bn:
        x = keras.layers.BatchNormalization(name="normalization")(x)
    for units in hidden_units:
        glorot = keras.initializers.GlorotUniform(*seeds(1))
        x = keras.layers.Dense(units, kernel_initializer=glorot)(x)
        x = Dice()(x) if activation == "dice" else keras.layers.Activation(activation)(x)
        x = keras.layers.Dropout(dropout, seed=seeds(1)[0])(x)
    glorot = keras.initializers.GlorotUniform(*seeds(1))
    logit = keras.layers.Dense(1, kernel_initializer=glorot, name="deep")(x)
    out = keras.layers.Activation("sigmoid", dtype="float32")(logit)
    return keras.Model(inputs, out, name="StockDIEN")


def _reads(feature: Feature, table: str, features: Sequence[Feature]) -> bool:
    return not isinstance(feature, DenseFeature) and table_of(feature, features) == table


def _is_of(feature: Feature, history: SequenceFeature) -> bool:
    return isinstance(feature, SequenceFeature) and feature.negative_of == history.name
