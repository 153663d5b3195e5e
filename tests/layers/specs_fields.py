"""Layers of features and of fields for the contract of all layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from recops import layers, ops
from recops.features import DenseFeature, SequenceFeature, SparseFeature
from tests.layers.spec import B, D, F, Spec, call_masked, floats, ids
from tests.oracles.cin import cin

USER, ITEM = SparseFeature("user", 7, D), SparseFeature("item", 9, D)
HISTORY = SequenceFeature("history", 9, max_length=5, embedding_dim=D, target="item")
TAGS = SequenceFeature("tags", 6, max_length=4, embedding_dim=D, combiner="sum")
VISITS = SequenceFeature("visits", 7, 3, D, embedding_name="user", combiner="sqrtn", sessions=2)
PRICE, PLACE = DenseFeature("price"), DenseFeature("place", dimension=2)
FIELDS = [USER, HISTORY, ITEM, TAGS, VISITS]


def batch(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Values of all the features above."""
    return {
        "user": ids(rng, 7),
        "item": ids(rng, 9),
        "history": ids(rng, 9, 5),
        "tags": ids(rng, 6, 4),
        "visits": ids(rng, 7, 2, 3),
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


def _dense(layer: Any, x: np.ndarray) -> Any:
    return np.maximum(x @ np.asarray(layer.kernel) + np.asarray(layer.bias), 0)


def _senet(squeeze: Any) -> Callable[[Any, np.ndarray], Any]:
    def expected(layer: Any, x: np.ndarray) -> Any:
        hidden = np.maximum(squeeze(x, axis=2) @ np.asarray(layer.squeeze_kernel), 0)
        weights = np.maximum(hidden @ np.asarray(layer.excitation_kernel), 0)
        out = x * weights[..., None]
        return (out, weights) if layer.return_weights else out

    return expected


def _bilinear(kind: str) -> Spec:
    return Spec(
        f"bilinear_{kind}",
        lambda **kw: layers.BilinearInteraction(kind, **kw),
        floats(F, D),
        lambda layer, x: ops.bilinear_interaction(x, layer.kernel, kind),
    )


def _cross(parameterization: str) -> Spec:
    return Spec(
        f"cross_{parameterization}",
        lambda **kw: layers.Cross(2, parameterization, **kw),
        floats(5),
        lambda layer, x: ops.cross_network(x, layer.kernels, layer.biases),
    )


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
        lambda rng: ids(rng, 1, 5),
        lambda layer, x: x != 0,
        runs_op=False,
    ),
    Spec(
        "embedding_bag",
        lambda **kw: layers.EmbeddingBag(9, D, **kw),
        lambda rng: ids(rng, 9, 5),
        lambda layer, x: pooled(np.asarray(layer.embeddings), x, "mean"),
        call_masked,
    ),
    Spec(
        "inner_product",
        lambda **kw: layers.InnerProduct(**kw),
        floats(F, D),
        lambda layer, x: ops.pairwise_inner(x),
    ),
    Spec(
        "pairwise_hadamard",
        lambda **kw: layers.PairwiseHadamard(**kw),
        floats(F, D),
        lambda layer, x: ops.pairwise_hadamard(x),
    ),
    Spec(
        "bi_interaction",
        lambda **kw: layers.BiInteraction(**kw),
        floats(F, D),
        lambda layer, x: ops.bi_interaction(x),
    ),
    Spec("fm", lambda **kw: layers.FM(**kw), floats(F, D), lambda layer, x: ops.fm_interaction(x)),
    Spec(
        "ffm",
        lambda **kw: layers.FFM(**kw),
        floats(F, F, D),
        lambda layer, x: ops.field_aware_interaction(x),
    ),
    Spec(
        "attentional_pooling",
        lambda **kw: layers.AttentionalPooling(attention_factor=5, **kw),
        floats(F, D),
        lambda layer, x: ops.attentional_pooling(x, layer.kernel, layer.bias, layer.projection)[0],
    ),
    *map(_bilinear, ("all", "each", "interaction")),
    Spec(
        "outer_product",
        lambda **kw: layers.OuterProduct(5, **kw),
        floats(F, D),
        lambda layer, x: ops.outer_product(x, layer.kernel),
    ),
    *map(_cross, ("vector", "matrix")),
    Spec(
        "cin",
        lambda **kw: layers.CIN((4, 3), "relu", split_half=True, use_bias=True, **kw),
        floats(F, D),
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
        floats(F, D),
        _senet(np.mean),
        runs_op=False,
    ),
    Spec(
        "senet_max",
        lambda **kw: layers.SENET(2, "max", return_weights=True, **kw),
        floats(F, D),
        _senet(np.max),
        runs_op=False,
    ),
    Spec(
        "dice",
        lambda **kw: layers.Dice(alpha_initializer="random_normal", **kw),
        floats(5, D),
        _dice,
        call_masked,
        runs_op=False,
    ),
    Spec(
        "dense",
        lambda **kw: layers.Dense(7, "relu", bias_initializer="random_normal", **kw),
        floats(5, D),
        _dense,
    ),
    Spec(
        "mlp",
        lambda **kw: layers.MLP([7, 4], "dice", **kw),
        floats(5, D),
        _mlp,
        call_masked,
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
