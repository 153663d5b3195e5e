"""Deep & Cross Network, in its first and second version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recops.features import Feature
from recops.layers import Cross
from recops.models._parts import Parts, join, l2


def DCN(
    features: Sequence[Feature],
    *,
    parameterization: str = "vector",
    num_cross_layers: int = 3,
    hidden_units: Sequence[int] = (256, 128, 64),
    activation: Any = "relu",
    dropout: float | Sequence[float] = 0.0,
    use_bn: bool = False,
    bn_momentum: float = 0.9,
    l2_cross: float = 0.0,
    l2_hidden: float = 0.0,
    l2_embedding: float = 0.0,
    l2_embedding_rows: str = "all",
    task: str = "binary",
    backend: str | None = None,
    seed: int | None = None,
) -> Any:
    """Deep & Cross Network: explicit crosses of bounded order beside hidden layers.

        y = sigmoid(w . [cross(x), deep(x)] + b)        x = [embeddings, numbers]

    Args:
      features: any features.
      parameterization: "vector" (DCN) or "matrix" (DCNv2).
      num_cross_layers: L; crosses reach order L + 1. In vector form they have 2 L n parameters.
      hidden_units, activation, dropout: of the deep part, as in `MLP`; () leaves the crosses alone.
      use_bn, bn_momentum: batch normalization before each hidden layer's activation, as in `MLP`.
      l2_cross, l2_hidden, l2_embedding: L2 penalties.
      l2_embedding_rows: which rows of its tables the penalties hold back: "all" reads and moves
        them in each step; of "batch", the rows in use alone, so that a table's gradient stays
        sparse. See `FusedEmbedding`.
      task: "binary" or "regression".
      backend: of all layers. seed: of initial weights and dropout.

    Defaults: parameterization="vector", num_cross_layers=3, hidden_units=(256, 128, 64),
    activation="relu", dropout=0.0, use_bn=False, bn_momentum=0.9, l2_cross=0.0, l2_hidden=0.0,
    l2_embedding=0.0, l2_embedding_rows="all", task="binary".

    Returns: keras.Model from {feature name: values} to [B, 1] float32.

    Raises: ValueError for contradicting features.

    Source: Wang et al., Deep & Cross Network, ADKDD 2017; DCN V2, WWW 2021 (parallel form).

    Example:
      >>> from recops.features import DenseFeature, SparseFeature
      >>> model = DCN([SparseFeature("user", 9, 4), DenseFeature("age")], num_cross_layers=2)
      >>> model.get_layer("cross").count_params()  # 2 L n of n = 4 + 1
      20
    """
    parts = Parts(
        "DCN",
        features,
        task=task,
        seed=seed,
        backend=backend,
        l2_embedding=l2_embedding,
        l2_embedding_rows=l2_embedding_rows,
    )
    x = parts.vector()  # [B, n]
    cross = Cross(
        num_cross_layers,
        parameterization,
        kernel_initializer=parts.glorot(),
        kernel_regularizer=l2(l2_cross),
        backend=backend,
        name="cross",
    )
    both = [cross(x)]
    if hidden_units:
        both.append(
            parts.hidden(
                x,
                hidden_units,
                activation,
                dropout,
                l2_hidden,
                use_bn=use_bn,
                bn_momentum=bn_momentum,
            )
        )
    return parts.model(parts.logit(join(*both), use_bias=True, name="combination"))
