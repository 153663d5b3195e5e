"""Every layer once or more, with inputs and the same result from the ops, for all tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from recops import layers, ops
from recops._core.compat import keras
from recops.features import DenseFeature, SequenceFeature, SparseFeature
from tests.oracles.cin import cin

B, F, D = 6, 4, 3


@dataclass(frozen=True)
class Spec:
    """A layer with given arguments.

    Args:
      name: unique, lower case.
      make: keyword arguments of every layer -> a new layer.
      inputs: random generator -> an array or a dict of arrays, batch first.
      expected: (built layer, inputs) -> the same result without the layer.
      masked: (layer, inputs, mask [B, n]) -> result; None where a mask has no meaning.
      call: (layer, inputs) -> result, for a layer that takes several arguments.
      runs_op: whether an op of recops runs in it.
    """

    name: str
    make: Callable[..., Any]
    inputs: Callable[[np.random.Generator], Any]
    expected: Callable[[Any, Any], Any]
    masked: Callable[[Any, Any, Any], Any] | None = None
    call: Callable[[Any, Any], Any] = lambda layer, x: layer(x)
    runs_op: bool = True


def _floats(*shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda rng: rng.normal(size=(B, *shape)).astype(np.float32)


def _ids(rng: np.random.Generator, size: int, *shape: int) -> np.ndarray:
    return rng.integers(0, size + 1, size=(B, *shape)).astype(np.int32)


USER, ITEM = SparseFeature("user", 7, D), SparseFeature("item", 9, D)
HISTORY = SequenceFeature("history", 9, max_length=5, embedding_dim=D, target="item")
TAGS = SequenceFeature("tags", 6, max_length=4, embedding_dim=D, combiner="sum")
VISITS = SequenceFeature("visits", 7, 3, D, embedding_name="user", combiner="sqrtn", sessions=2)
PRICE, PLACE = DenseFeature("price"), DenseFeature("place", dimension=2)
FIELDS = [USER, HISTORY, ITEM, TAGS, VISITS]


def batch(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Values of all the features above."""
    return {
        "user": _ids(rng, 7),
        "item": _ids(rng, 9),
        "history": _ids(rng, 9, 5),
        "tags": _ids(rng, 6, 4),
        "visits": _ids(rng, 7, 2, 3),
        "price": rng.normal(size=(B, 1)).astype(np.float32),
        "place": rng.normal(size=(B, 2)).astype(np.float32),
    }


def taken(*features: Any) -> Callable[[np.random.Generator], dict[str, np.ndarray]]:
    """Values of some of the features."""
    return lambda rng: {k: v for k, v in batch(rng).items() if k in {f.name for f in features}}


def pooled(table: np.ndarray, ids: np.ndarray, combiner: str, mask: Any = None) -> np.ndarray:
    """Bag of the rows that the mask keeps, by default those of ids other than 0."""
    ids = ids.reshape(len(ids), -1)
    keep = (ids != 0 if mask is None else mask)[..., None]
    total = np.where(keep, table[ids], 0).sum(1)
    count = keep.sum(1)
    scale = {"sum": 1, "mean": count, "sqrtn": np.sqrt(count)}[combiner]
    return total / np.maximum(scale, 1)


def fields_of(table: np.ndarray, x: dict[str, np.ndarray]) -> np.ndarray:
    """FIELDS from the fused table, in which the sequence-only table `tags` stands first."""
    tags, user, item = np.split(table, [7, 15])
    return np.stack(
        [
            user[x["user"]],
            pooled(item, x["history"], "mean"),
            item[x["item"]],
            pooled(tags, x["tags"], "sum"),
            pooled(user, x["visits"], "sqrtn"),
        ],
        axis=1,
    )


def apart_of(table: np.ndarray, x: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """FIELDS by name from the fused table, in which the pooled `tags` stands first."""
    tags, user, item = np.split(table, [7, 15])
    return {
        "user": user[x["user"]],
        "history": item[x["history"]],
        "item": item[x["item"]],
        "tags": pooled(tags, x["tags"], "sum"),
        "visits": user[x["visits"]],
    }


def _linear(layer: Any, x: dict[str, np.ndarray]) -> np.ndarray:
    table, kernel, bias = (
        np.asarray(v) for v in (layer.table.embeddings, layer.kernel, layer.bias)
    )
    numbers = np.concatenate([x["price"], x["place"]], axis=1)
    return fields_of(table, x).sum(1) + numbers @ kernel + bias


def _crosses(layer: Any, x: dict[str, np.ndarray]) -> np.ndarray:
    weight = np.asarray(layer.weight)
    pair = weight[x["user"] * 10 + x["item"]]
    return pair + weight[80 + x["item"]] * x["price"]


def _dice(layer: Any, x: np.ndarray) -> np.ndarray:
    mean, variance = (
        np.asarray(v)
        for v in (layer.normalization.moving_mean, layer.normalization.moving_variance)
    )
    gate = 1 / (1 + np.exp(-(x - mean) / np.sqrt(variance + layer.epsilon)))
    return gate * x + (1 - gate) * np.asarray(layer.alpha) * x


def _mlp(layer: Any, x: np.ndarray) -> Any:
    for dense, activation in zip(layer.dense, layer.activations):
        x = x @ np.asarray(dense.kernel) + np.asarray(dense.bias)
        x = _dice(activation, x) if isinstance(activation, layers.Dice) else np.maximum(x, 0)
    return x


def _senet(squeeze: Any) -> Callable[[Any, np.ndarray], np.ndarray]:
    def expected(layer: Any, x: np.ndarray) -> np.ndarray:
        hidden = np.maximum(squeeze(x, axis=2) @ np.asarray(layer.squeeze_kernel), 0)
        return x * np.maximum(hidden @ np.asarray(layer.excitation_kernel), 0)[..., None]

    return expected


def _bilinear(kind: str) -> Spec:
    return Spec(
        f"bilinear_{kind}",
        lambda **kw: layers.BilinearInteraction(kind, **kw),
        _floats(F, D),
        lambda layer, x: ops.bilinear_interaction(x, layer.kernel, kind),
    )


def _cross(parameterization: str) -> Spec:
    return Spec(
        f"cross_{parameterization}",
        lambda **kw: layers.Cross(2, parameterization, **kw),
        _floats(5),
        lambda layer, x: ops.cross_network(x, layer.kernels, layer.biases),
    )


def _call_masked(layer: Any, x: Any, mask: Any) -> Any:
    return layer(x, mask=mask)


SPECS: list[Spec] = [
    Spec(
        "fused_embedding",
        lambda **kw: layers.FusedEmbedding(FIELDS, **kw),
        taken(*FIELDS),
        lambda layer, x: fields_of(np.asarray(layer.embeddings), x),
    ),
    Spec(
        "fused_embedding_apart",
        lambda **kw: layers.FusedEmbedding(FIELDS, join=False, **kw),
        taken(*FIELDS),
        lambda layer, x: apart_of(np.asarray(layer.embeddings), x),
    ),
    Spec(
        "padding_mask",
        lambda **kw: layers.PaddingMask(**kw),
        lambda rng: _ids(rng, 1, 5),
        lambda layer, x: x != 0,
        runs_op=False,
    ),
    Spec(
        "embedding_bag",
        lambda **kw: layers.EmbeddingBag(9, D, **kw),
        lambda rng: _ids(rng, 9, 5),
        lambda layer, x: pooled(np.asarray(layer.embeddings), x, "mean"),
        _call_masked,
    ),
    Spec(
        "inner_product",
        lambda **kw: layers.InnerProduct(**kw),
        _floats(F, D),
        lambda layer, x: ops.pairwise_inner(x),
    ),
    Spec(
        "pairwise_hadamard",
        lambda **kw: layers.PairwiseHadamard(**kw),
        _floats(F, D),
        lambda layer, x: ops.pairwise_hadamard(x),
    ),
    Spec(
        "bi_interaction",
        lambda **kw: layers.BiInteraction(**kw),
        _floats(F, D),
        lambda layer, x: ops.bi_interaction(x),
    ),
    Spec("fm", lambda **kw: layers.FM(**kw), _floats(F, D), lambda layer, x: ops.fm_interaction(x)),
    Spec(
        "ffm",
        lambda **kw: layers.FFM(**kw),
        _floats(F, F, D),
        lambda layer, x: ops.field_aware_interaction(x),
    ),
    Spec(
        "attentional_pooling",
        lambda **kw: layers.AttentionalPooling(attention_factor=5, **kw),
        _floats(F, D),
        lambda layer, x: ops.attentional_pooling(x, layer.kernel, layer.bias, layer.projection)[0],
    ),
    *map(_bilinear, ("all", "each", "interaction")),
    Spec(
        "outer_product",
        lambda **kw: layers.OuterProduct(5, **kw),
        _floats(F, D),
        lambda layer, x: ops.outer_product(x, layer.kernel),
    ),
    *map(_cross, ("vector", "matrix")),
    Spec(
        "cin",
        lambda **kw: layers.CIN((4, 3), "relu", split_half=True, use_bias=True, **kw),
        _floats(F, D),
        lambda layer, x: cin(
            x,
            [np.asarray(kernel) for kernel in layer.kernels],
            [np.asarray(bias) for bias in layer.biases],
            "relu",
            split_half=True,
        ),
    ),
    Spec(
        "senet_mean",
        lambda **kw: layers.SENET(2, **kw),
        _floats(F, D),
        _senet(np.mean),
        runs_op=False,
    ),
    Spec(
        "senet_max",
        lambda **kw: layers.SENET(2, "max", **kw),
        _floats(F, D),
        _senet(np.max),
        runs_op=False,
    ),
    Spec(
        "dice",
        lambda **kw: layers.Dice(alpha_initializer="random_normal", **kw),
        _floats(5, D),
        _dice,
        _call_masked,
        runs_op=False,
    ),
    Spec(
        "mlp",
        lambda **kw: layers.MLP([7, 4], "dice", **kw),
        _floats(5, D),
        _mlp,
        _call_masked,
        runs_op=False,
    ),
    Spec(
        "linear",
        lambda **kw: layers.Linear([*FIELDS, PRICE, PLACE], **kw),
        batch,
        _linear,
    ),
    Spec(
        "wide_crosses",
        lambda **kw: layers.WideCrosses(
            [USER, ITEM, PRICE], [("user", "item"), ("item", "price")], **kw
        ),
        taken(USER, ITEM, PRICE),
        _crosses,
    ),
]

# These import `Spec` from here, so they come last.
from tests.layers import (  # noqa: E402
    specs_behavior,
    specs_interacting,
    specs_interest,
    specs_lsplm,
    specs_recurrent,
    specs_session,
    specs_target_attention,
    specs_transformer,
)

SPECS += [
    *specs_behavior.SPECS,
    *specs_interacting.SPECS,
    *specs_interest.SPECS,
    *specs_lsplm.SPECS,
    *specs_recurrent.SPECS,
    *specs_session.SPECS,
    *specs_target_attention.SPECS,
    *specs_transformer.SPECS,
]


def keras_inputs(x: Any, prefix: str = "") -> Any:
    """Keras inputs for an array or a dict of arrays."""
    if isinstance(x, dict):
        return {name: keras_inputs(value, f"{prefix}_{name}") for name, value in x.items()}
    return keras.Input(shape=x.shape[1:], dtype=x.dtype.name, name=prefix or None)


def everything(seed: int = 0) -> tuple[Any, dict[str, np.ndarray]]:
    """One model with every layer, whose output is all of theirs side by side, and a batch."""
    rng = np.random.default_rng(seed)
    inputs: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    outputs = []
    for spec in SPECS:
        x = spec.inputs(rng)
        symbols = keras_inputs(x, f"{spec.name}_input")
        results = tf.nest.flatten(spec.call(spec.make(name=spec.name), symbols))
        outputs += [keras.layers.Flatten()(y) for y in results if y.dtype != "bool"]
        for symbol, array in zip(tf.nest.flatten(symbols), tf.nest.flatten(x)):
            inputs[symbol.name], arrays[symbol.name] = symbol, array
    model = keras.Model(inputs, keras.layers.Concatenate()(outputs))
    # Positive weights: drawn at random, those behind a ReLU may be dead for a whole batch.
    model.set_weights([rng.uniform(0.1, 0.5, size=w.shape) for w in model.weights])
    return model, arrays
