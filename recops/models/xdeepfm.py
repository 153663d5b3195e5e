"""xDeepFM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recops._core.compat import keras
from recops.features import Feature
from recops.layers import CIN
from recops.models._parts import Parts, l2


def XDeepFM(
    features: Sequence[Feature],
    *,
    layer_size: Sequence[int] = (128, 128),
    cin_activation: Any = None,
    split_half: bool = False,
    cin_bias: bool = False,
    hidden_units: Sequence[int] = (128, 128),
    activation: Any = "relu",
    dropout: float | Sequence[float] = 0.0,
    use_bn: bool = False,
    bn_momentum: float = 0.9,
    l1_linear: float = 0.0,
    l2_linear: float = 0.0,
    l2_cin: float = 0.0,
    l2_hidden: float = 0.0,
    l2_embedding: float = 0.0,
    l2_embedding_rows: str = "all",
    task: str = "binary",
    backend: str | None = None,
    seed: int | None = None,
) -> Any:
    """xDeepFM: a first order, a compressed interaction network and hidden layers, added.

        y = sigmoid(b + w . x + v . cin(e) + h . deep([e, numbers]))

    Args:
      features: two or more sparse or sequence features of one embedding_dim, and any dense ones,
        which the first order and the hidden layers read.
      layer_size, cin_activation, split_half, cin_bias: of `CIN`; DeepCTR has "relu", True, True.
      hidden_units, activation, dropout: of the deep part, as in `MLP`.
      use_bn, bn_momentum: batch normalization before each hidden layer's activation, as in `MLP`.
      l1_linear, l2_linear: penalties of the first-order weights.
      l2_cin, l2_hidden, l2_embedding: L2 penalties.
      l2_embedding_rows: which rows of its tables the penalties hold back: "all" reads and moves
        them in each step; of "batch", the rows in use alone, so that a table's gradient stays
        sparse. See `FusedEmbedding`.
      task: "binary" or "regression".
      backend: of all layers. seed: of initial weights and dropout.

    Defaults: layer_size=(128, 128), split_half=False, cin_bias=False, hidden_units=(128, 128),
    activation="relu", dropout=0.0, use_bn=False, bn_momentum=0.9, l1_linear=0.0, l2_linear=0.0,
    l2_cin=0.0, l2_hidden=0.0, l2_embedding=0.0, l2_embedding_rows="all", task="binary".

    Returns: keras.Model from {feature name: values} to [B, 1] float32. The bias is the first
    order's.

    Raises: ValueError for fewer than two fields, contradicting features or an unknown option.

    Source: Lian et al., xDeepFM, KDD 2018.

    Example:
      >>> from recops.features import SparseFeature
      >>> model = XDeepFM([SparseFeature("user", 9), SparseFeature("item", 19)], layer_size=(8, 8))
      >>> model.output_shape
      (None, 1)
    """
    parts = Parts(
        "XDeepFM",
        features,
        min_fields=2,
        task=task,
        seed=seed,
        backend=backend,
        l2_embedding=l2_embedding,
        l2_embedding_rows=l2_embedding_rows,
    )
    first = parts.linear(l1_linear, l2_linear)
    embeddings = parts.embeddings()  # [B, F, D]
    crossed = CIN(
        layer_size,
        cin_activation,
        split_half,
        cin_bias,
        kernel_initializer=parts.glorot(),
        kernel_regularizer=l2(l2_cin),
        backend=backend,
        name="cin",
    )(embeddings)
    x = parts.with_numbers(keras.layers.Flatten()(embeddings))
    deep = parts.hidden(
        x, hidden_units, activation, dropout, l2_hidden, use_bn=use_bn, bn_momentum=bn_momentum
    )
    return parts.model(
        first,
        parts.logit(crossed, use_bias=False, name="crossed"),
        parts.logit(deep, use_bias=False, name="deep"),
    )
