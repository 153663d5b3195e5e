"""BST and DSIN in stock Keras layers, as one writes them well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from stock import Pooled, embedded_of
from stock_deepfm import MaskedPooling
from stock_dien import Attention, IsReal

from recops.features import Feature, SequenceFeature

keras = tf.keras


class Joined(keras.layers.Layer):
    """A history with the target at its end, and which steps are real."""

    def call(self, target: Any, steps: Any, real: Any) -> Any:
        x = tf.concat([steps, target[:, None]], axis=1)
        return x, tf.concat([real, tf.ones_like(real[:, :1])], axis=1)


class Recency(keras.layers.Layer):
    """Adds a vector for the number of real steps after each."""

    def build(self, input_shape: Any) -> None:
        self.vectors = keras.layers.Embedding(*input_shape[1:])
        self.vectors.build(None)
        self.built = True

    def call(self, x: Any, real: Any) -> Any:
        after = tf.cumsum(tf.cast(real, tf.int32), axis=1, exclusive=True, reverse=True)
        return tf.where(real[..., None], x + self.vectors(after), tf.zeros([], x.dtype))


class Block(keras.layers.Layer):
    """Self-attention and two dense layers, each added to what it reads and normalized."""

    def __init__(self, num_heads: int, activation: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_heads, self.activation = num_heads, activation

    def build(self, input_shape: Any) -> None:
        dim = input_shape[-1]
        layers = keras.layers
        self.attention = layers.MultiHeadAttention(
            self.num_heads, dim // self.num_heads, use_bias=False
        )
        self.wide = layers.Dense(4 * dim, self.activation)
        self.narrow = layers.Dense(dim)
        self.normalizations = [layers.LayerNormalization(epsilon=1e-6) for _ in range(2)]
        self.attention.build(input_shape, input_shape)
        self.wide.build(input_shape)
        self.narrow.build((*input_shape[:-1], 4 * dim))
        for normalization in self.normalizations:
            normalization.build(input_shape)
        self.built = True

    def call(self, x: Any, real: Any) -> Any:
        x = self.normalizations[0](x + self.attention(x, x, attention_mask=real[:, None]))
        return self.normalizations[1](x + self.narrow(self.wide(x)))


class Sessions(keras.layers.Layer):
    """Sessions [B, K, T, D] with biases for their place, as one batch [B K, T, D]."""

    def build(self, input_shape: Any) -> None:
        self.biases = [
            self.add_weight(name=f"bias_{i}", shape=shape)
            for i, shape in enumerate(
                ((input_shape[1], 1, 1), (input_shape[2], 1), (input_shape[3],))
            )
        ]
        self.built = True

    def call(self, x: Any, real: Any) -> Any:
        for bias in self.biases:
            x = x + bias
        return tf.reshape(x, [-1, *x.shape[2:]]), tf.reshape(real, [-1, real.shape[2]])


class SessionMeans(keras.layers.Layer):
    """The mean over the real steps of each session: [B K, T, D] -> [B, K, D]."""

    def __init__(self, sessions: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sessions = sessions

    def call(self, x: Any, real: Any) -> Any:
        kept = tf.cast(real, x.dtype)[..., None]
        mean = tf.reduce_sum(x * kept, axis=1) / tf.maximum(tf.reduce_sum(kept, axis=1), 1)
        alive = tf.reshape(tf.reduce_any(real, axis=1), [-1, self.sessions])
        return tf.reshape(mean, [-1, self.sessions, x.shape[-1]]), alive


def _read(features: Sequence[Feature], in_sessions: bool) -> tuple[Any, ...]:
    """Inputs, embeddings, what is no history of that kind, and the histories."""
    features = [
        f
        for f in features
        if not isinstance(f, SequenceFeature)
        or (f.negative_of is None and (f.target is None or bool(f.sessions) == in_sessions))
    ]
    inputs = {feature.name: feature.input() for feature in features}
    embedded = embedded_of(features, inputs)
    fields, histories = [], []
    for feature in features:
        steps = embedded[feature.name]
        if not isinstance(feature, SequenceFeature):
            fields.append(steps)
        elif feature.target is None:
            fields.append(MaskedPooling(feature.combiner)(steps, inputs[feature.name]))
        else:
            histories.append((feature, steps, IsReal()(inputs[feature.name])))
    return inputs, embedded, fields, histories


def _model(
    inputs: dict[str, Any], fields: list[Any], units: Sequence[int], activation: str, name: str
) -> Any:
    x = keras.layers.Concatenate()(fields)
    for width in units:
        x = keras.layers.Dense(width, activation)(x)
    return keras.Model(inputs, keras.layers.Dense(1, "sigmoid", dtype="float32")(x), name=name)


def StockBST(features: Sequence[Feature], hidden_units: Sequence[int] = (1024, 512, 256)) -> Any:
    """BST of one block and eight heads, flattened, without dropout."""
    inputs, embedded, fields, histories = _read(features, in_sessions=False)
    for feature, steps, real in histories:
        x, real = Joined()(embedded[feature.target], steps, real)
        x = Block(8, "leaky_relu")(Recency()(x, real), real)
        fields.append(keras.layers.Flatten()(x))
    return _model(inputs, fields, hidden_units, "leaky_relu", "StockBST")


def StockDSIN(
    features: Sequence[Feature], hidden_units: Sequence[int] = (200, 80), cudnn: Any = "auto"
) -> Any:
    """DSIN with two bidirectional LSTMs; `cudnn` is their `use_cudnn`."""
    inputs, embedded, fields, histories = _read(features, in_sessions=True)
    for feature, steps, real in histories:
        x, kept = Sessions()(steps, real)
        x = Block(1, "relu")(x, kept)
        interests, alive = SessionMeans(feature.sessions)(x, kept)
        course = interests
        for _ in range(2):
            lstm = keras.layers.LSTM(feature.embedding_dim, return_sequences=True, use_cudnn=cudnn)
            course = keras.layers.Bidirectional(lstm, merge_mode="ave")(course, mask=alive)
        for of in (interests, course):
            scores = Attention((80, 40), (None,) * 3)(embedded[feature.target], of, alive)
            fields.append(Pooled()(of, scores))
    return _model(inputs, fields, hidden_units, "relu", "StockDSIN")
