"""xDeepFM and FiBiNET in stock Keras layers, as one writes them well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from recops.features import DenseFeature, Feature, table_of, tables

keras = tf.keras


class CIN(keras.layers.Layer):
    """Compressed interaction: outer products by row, one GEMM a layer, sums over the width."""

    def __init__(self, layer_size: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense = [keras.layers.Dense(maps, use_bias=False) for maps in layer_size]

    def call(self, embeddings: Any) -> Any:
        fields = tf.transpose(embeddings, [0, 2, 1])  # [B, D, F]
        state, sums = fields, []
        for dense in self.dense:
            outer = state[..., None] * fields[:, :, None]  # [B, D, H, F]
            width = outer.shape[2] * outer.shape[3]
            state = dense(tf.reshape(outer, [-1, outer.shape[1], width]))
            sums.append(tf.reduce_sum(state, axis=1))
        return tf.concat(sums, axis=1)


class SENET(keras.layers.Layer):
    """Each field times a weight that two small layers make of the means of all."""

    def __init__(self, reduction_ratio: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reduction_ratio = reduction_ratio

    def build(self, input_shape: Any) -> None:
        fields = input_shape[1]
        narrow = max(1, fields // self.reduction_ratio)
        self.squeeze = keras.layers.Dense(narrow, "relu", use_bias=False)
        self.excite = keras.layers.Dense(fields, "relu", use_bias=False)
        self.squeeze.build((None, fields))
        self.excite.build((None, narrow))
        self.built = True

    def call(self, x: Any) -> Any:
        return x * self.excite(self.squeeze(tf.reduce_mean(x, axis=2)))[..., None]


class Bilinear(keras.layers.Layer):
    """Each pair of fields through a matrix of its own: [B, F, D] -> [B, P, D]."""

    def build(self, input_shape: Any) -> None:
        fields, dim = input_shape[1:]
        self.left, self.right = (at.astype("int32") for at in np.triu_indices(fields, 1))
        self.kernel = self.add_weight(name="kernel", shape=(len(self.left), dim, dim))
        self.built = True

    def call(self, x: Any) -> Any:
        left, right = (tf.gather(x, at, axis=1) for at in (self.left, self.right))
        return tf.einsum("bpd,pde->bpe", left, self.kernel) * right


def _read(features: Sequence[Feature]) -> tuple[dict[str, Any], Any, list[Any], Any]:
    """Inputs, embeddings [B, F, D], numbers, and the first order of all."""
    inputs = {feature.name: feature.input() for feature in features}
    sparse = [f for f in features if not isinstance(f, DenseFeature)]

    def of(width: int) -> list[Any]:
        layers = {table: keras.layers.Embedding(n, width) for table, n in tables(sparse).items()}
        return [layers[table_of(f, sparse)](inputs[f.name]) for f in sparse]

    width = sparse[0].embedding_dim
    flat = keras.layers.Concatenate()(of(width))
    numbers = [inputs[f.name] for f in features if isinstance(f, DenseFeature)]
    first = of(1)
    if numbers:
        first.append(keras.layers.Dense(1)(keras.layers.Concatenate()(numbers)))
    return inputs, keras.layers.Reshape((len(sparse), width))(flat), numbers, first


def _model(
    inputs: dict[str, Any], flat: list[Any], logits: list[Any], units: Sequence[int], name: str
) -> Any:
    """Hidden layers on what is flat, and the sigmoid of all logits."""
    x = keras.layers.Concatenate()(flat) if len(flat) > 1 else flat[0]
    for width in units:
        x = keras.layers.Dense(width, "relu")(x)
    logit = keras.layers.Add()([*logits, keras.layers.Dense(1)(x)])
    out = keras.layers.Activation("sigmoid", dtype="float32")(logit)
    return keras.Model(inputs, out, name=name)


def StockXDeepFM(
    features: Sequence[Feature],
    layer_size: Sequence[int] = (128, 128),
    hidden_units: Sequence[int] = (128, 128),
) -> Any:
    """xDeepFM: a first order, a CIN without activation, and hidden layers."""
    inputs, embeddings, numbers, first = _read(features)
    crossed = keras.layers.Dense(1, use_bias=False)(CIN(layer_size)(embeddings))
    flat = [keras.layers.Flatten()(embeddings), *numbers]
    return _model(inputs, flat, [*first, crossed], hidden_units, "StockXDeepFM")


def StockFiBiNET(features: Sequence[Feature], hidden_units: Sequence[int] = (128, 128)) -> Any:
    """FiBiNET of kind "interaction", without dropout."""
    inputs, embeddings, numbers, first = _read(features)
    branches = (SENET()(embeddings), embeddings)
    flat = [keras.layers.Flatten()(Bilinear()(x)) for x in branches]
    return _model(inputs, [*flat, *numbers], first, hidden_units, "StockFiBiNET")
