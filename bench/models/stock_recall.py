"""NeuralCF, LS-PLM and YoutubeDNN's first stage in stock Keras layers, as one writes them well."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from stock_deepfm import MaskedPooling

from recops.features import (
    DenseFeature,
    Feature,
    SequenceFeature,
    SparseFeature,
    table_of,
    tables,
)

keras = tf.keras


class SampledLoss(keras.layers.Layer):
    """The loss of choosing an item by `tf.nn.sampled_softmax_loss`: [B, D], ids [B] -> [B, 1]."""

    def __init__(self, items: int, num_sampled: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.items, self.num_sampled = items, num_sampled

    def build(self, input_shape: Any) -> None:
        self.vectors = self.add_weight(
            name="vectors", shape=(self.items, input_shape[-1]), initializer="uniform"
        )
        self.built = True

    def call(self, users: Any, chosen: Any) -> Any:
        loss = tf.nn.sampled_softmax_loss(
            weights=tf.convert_to_tensor(self.vectors),
            biases=tf.zeros([self.items]),
            # Its classes begin at 0, ids at 1.
            labels=tf.reshape(tf.cast(chosen, tf.int64) - 1, [-1, 1]),
            inputs=users,
            num_sampled=self.num_sampled,
            num_classes=self.items,
        )
        return loss[:, None]


class DrawnLoss(SampledLoss):
    """The same loss of items drawn by hand, which XLA compiles: TensorFlow's sampler it has not."""

    def call(self, users: Any, chosen: Any) -> Any:
        labels = tf.reshape(tf.cast(chosen, tf.int32) - 1, [-1])
        end = math.log(self.items + 1)
        drawn = tf.cast(tf.exp(tf.random.uniform([self.num_sampled]) * end), tf.int32) - 1
        drawn = tf.clip_by_value(drawn, 0, self.items - 1)
        vectors = tf.convert_to_tensor(self.vectors)
        own, others = tf.gather(vectors, labels), tf.gather(vectors, drawn)
        own = tf.cast(tf.reduce_sum(users * own, axis=1), tf.float32)
        others = tf.cast(tf.matmul(users, others, transpose_b=True), tf.float32)
        own -= self._log_count(labels, end)
        others -= self._log_count(drawn, end)
        others = tf.where(labels[:, None] == drawn, others.dtype.min, others)
        logits = tf.concat([own[:, None], others], axis=1)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.zeros_like(labels), logits)[
            :, None
        ]

    def _log_count(self, ids: Any, end: float) -> Any:
        """The logarithm of how often an item is expected to be drawn."""
        ids = tf.cast(ids, tf.float32)
        return tf.math.log(self.num_sampled * tf.math.log1p(1 / (ids + 1)) / end)


def StockNeuralCF(
    features: Sequence[Feature], mf_dim: int = 8, hidden_units: Sequence[int] = (64, 32, 16)
) -> Any:
    """NeuMF of the features user and item: two Keras embeddings of each."""
    pair = [f for name in ("user", "item") for f in features if f.name == name]
    inputs = {f.name: f.input() for f in pair}
    mf, mlp = (
        [
            keras.layers.Flatten()(
                keras.layers.Embedding(f.vocabulary_size + 1, mf_dim)(inputs[f.name])
            )
            for f in pair
        ]
        for _ in range(2)
    )
    x = keras.layers.Concatenate()(mlp)
    for units in hidden_units:
        x = keras.layers.Dense(units, "relu")(x)
    joined = keras.layers.Concatenate()([keras.layers.Multiply()(mf), x])
    return keras.Model(inputs, keras.layers.Dense(1, "sigmoid")(joined), name="StockNeuralCF")


def StockLSPLM(features: Sequence[Feature], regions: int = 12) -> Any:
    """LS-PLM of ids and numbers: one gather a feature for regions and regressions together."""
    inputs = {f.name: f.input() for f in features}
    terms = [
        keras.layers.Flatten()(
            keras.layers.Embedding(f.vocabulary_size + 1, 2 * regions)(inputs[f.name])
        )
        for f in features
        if not isinstance(f, DenseFeature)
    ]
    numbers = [inputs[f.name] for f in features if isinstance(f, DenseFeature)]
    terms.append(keras.layers.Dense(2 * regions)(keras.layers.Concatenate()(numbers)))
    logits = keras.layers.Add()(terms)
    gates = keras.layers.Activation("softmax")(logits[:, :regions])
    guesses = keras.layers.Activation("sigmoid")(logits[:, regions:])
    return keras.Model(inputs, keras.layers.Dot(axes=1)([gates, guesses]), name="StockLSPLM")


def StockYoutubeDNN(
    features: Sequence[Feature], num_sampled: int = 100, loss: type[SampledLoss] = SampledLoss
) -> Any:
    """A tower over the user's features and the sampled loss of the item."""
    inputs = {f.name: f.input() for f in features}
    (label,) = (f for f in features if isinstance(f, SparseFeature) and f.name == "item")
    read = [f for f in features if f is not label]
    with_ids = [f for f in read if not isinstance(f, DenseFeature)]
    # What was watched keeps the item's table, so the item stays among those that share.
    sharing = [*with_ids, label]
    layers = {
        table: keras.layers.Embedding(rows, label.embedding_dim, name=f"embedding_{table}")
        for table, rows in tables(sharing).items()
    }
    fields = [inputs[f.name] for f in read if isinstance(f, DenseFeature)]
    for f in with_ids:
        steps = layers[table_of(f, sharing)](inputs[f.name])
        if isinstance(f, SequenceFeature):
            fields.append(MaskedPooling(f.combiner)(steps, inputs[f.name]))
        else:
            fields.append(keras.layers.Flatten()(steps))
    x = keras.layers.Concatenate()(fields) if len(fields) > 1 else fields[0]
    dim = label.embedding_dim
    x = keras.layers.Dense(2 * dim, "relu")(keras.layers.Dense(4 * dim, "relu")(x))
    users = keras.layers.Dense(dim)(x)
    out = loss(label.vocabulary_size, num_sampled)(users, inputs[label.name])
    return keras.Model(inputs, out, name="StockYoutubeDNN")
