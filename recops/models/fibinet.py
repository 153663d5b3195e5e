"""FiBiNET."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recops._core.compat import keras
from recops.features import Feature
from recops.layers import SENET, BilinearInteraction
from recops.models._parts import Parts, join


def FiBiNET(
    features: Sequence[Feature],
    *,
    bilinear_type: str = "interaction",
    reduction_ratio: int = 3,
    squeeze: str = "mean",
    layer_norm: bool = False,
    use_linear: bool = True,
    hidden_units: Sequence[int] = (128, 128),
    activation: Any = "relu",
    dropout: float | Sequence[float] = 0.3,
    use_bn: bool = False,
    bn_momentum: float = 0.9,
    residual: bool = False,
    l1_linear: float = 0.0,
    l2_linear: float = 0.0,
    l2_hidden: float = 0.0,
    l2_embedding: float = 0.0,
    l2_embedding_rows: str = "all",
    task: str = "binary",
    backend: str | None = None,
    seed: int | None = None,
) -> Any:
    """FiBiNET: bilinear products of the embeddings, and of the embeddings that SENET re-weighs.

        y = sigmoid(b + w . x + h . deep([bilinear(senet(e)), bilinear'(e), numbers]))

    The two branches have bilinear weights of their own.

    Args:
      features: two or more sparse or sequence features of one embedding_dim, and any dense ones.
      bilinear_type: "all", "each" or "interaction", as in `BilinearInteraction`.
      reduction_ratio, squeeze: of `SENET`.
      layer_norm: normalize each bilinear product before the hidden layers.
      use_linear: have the first-order term, which holds the bias; else the deep part holds it.
      hidden_units, activation, dropout, residual: of the deep part, as in `MLP`.
      use_bn, bn_momentum: batch normalization before each hidden layer's activation, as in `MLP`.
      l1_linear, l2_linear: penalties of the first-order weights.
      l2_hidden, l2_embedding: L2 penalties.
      l2_embedding_rows: which rows of its tables the penalties hold back: "all" reads and moves
        them in each step; of "batch", the rows in use alone, so that a table's gradient stays
        sparse. See `FusedEmbedding`.
      task: "binary" or "regression".
      backend: of all layers. seed: of initial weights and dropout.

    Defaults: bilinear_type="interaction", reduction_ratio=3, squeeze="mean", layer_norm=False,
    use_linear=True, hidden_units=(128, 128), activation="relu", dropout=0.3, use_bn=False,
    bn_momentum=0.9, residual=False, l1_linear=0.0, l2_linear=0.0, l2_hidden=0.0, l2_embedding=0.0,
    l2_embedding_rows="all", task="binary".

    Returns: keras.Model from {feature name: values} to [B, 1] float32.

    Raises: ValueError for fewer than two fields, contradicting features or an unknown option.

    Source: Huang et al., FiBiNET, RecSys 2019.

    Example:
      >>> from recops.features import SparseFeature
      >>> model = FiBiNET([SparseFeature("user", 9), SparseFeature("item", 19)])
      >>> model.output_shape
      (None, 1)
    """
    parts = Parts(
        "FiBiNET",
        features,
        min_fields=2,
        task=task,
        seed=seed,
        backend=backend,
        l2_embedding=l2_embedding,
        l2_embedding_rows=l2_embedding_rows,
    )
    logits = [parts.linear(l1_linear, l2_linear)] if use_linear else []
    embeddings = parts.embeddings()  # [B, F, D]
    senet = SENET(
        reduction_ratio, squeeze, kernel_initializer=parts.glorot(), backend=backend, name="senet"
    )
    branches = {"senet_bilinear": senet(embeddings), "bilinear": embeddings}
    flat = []
    for name, fields in branches.items():
        products = BilinearInteraction(
            bilinear_type, kernel_initializer=parts.glorot(), backend=backend, name=name
        )(fields)  # [B, P, D]
        if layer_norm:
            products = keras.layers.LayerNormalization(name=f"{name}_normalization")(products)
        flat.append(keras.layers.Flatten()(products))  # [B, P * D]
    x = parts.with_numbers(join(*flat))
    deep = parts.hidden(
        x,
        hidden_units,
        activation,
        dropout,
        l2_hidden,
        residual=residual,
        use_bn=use_bn,
        bn_momentum=bn_momentum,
    )
    return parts.model(*logits, parts.logit(deep, use_bias=not use_linear, name="deep"))
