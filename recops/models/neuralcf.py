"""Neural collaborative filtering (NeuMF)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recops._core.compat import keras
from recops.features import Feature
from recops.layers import PairwiseHadamard
from recops.models._parts import Parts, join


def NeuralCF(
    features: Sequence[Feature],
    *,
    user: str = "user",
    item: str = "item",
    mf_dim: int = 8,
    mlp_dim: int | None = None,
    hidden_units: Sequence[int] = (64, 32, 16),
    activation: Any = "relu",
    dropout: float | Sequence[float] = 0.0,
    use_bn: bool = False,
    bn_momentum: float = 0.9,
    l2_hidden: float = 0.0,
    l2_embedding: float = 0.0,
    l2_embedding_rows: str = "all",
    task: str = "binary",
    backend: str | None = None,
    seed: int | None = None,
) -> Any:
    """NeuMF: a generalized matrix factorization and hidden layers, each with its own embeddings.

        y = sigmoid(h . [p_u * q_i, deep([p'_u, q'_i])] + b)

    Args:
      features: any, among them the two sparse ones that are read.
      user, item: names of these two.
      mf_dim: width of p and q.
      mlp_dim: width of p' and q'; None is `mf_dim`.
      hidden_units, activation, dropout: of the deep part, as in `MLP`.
      use_bn, bn_momentum: batch normalization before each hidden layer's activation, as in `MLP`.
      l2_hidden, l2_embedding: L2 penalties.
      l2_embedding_rows: which rows of its tables the penalties hold back: "all" reads and moves
        them in each step; of "batch", the rows in use alone, so that a table's gradient stays
        sparse. See `FusedEmbedding`.
      task: "binary" or "regression".
      backend: of all layers. seed: of initial weights and dropout.

    Defaults: user="user", item="item", mf_dim=8, hidden_units=(64, 32, 16), activation="relu",
    dropout=0.0, use_bn=False, bn_momentum=0.9, l2_hidden=0.0, l2_embedding=0.0,
    l2_embedding_rows="all", task="binary".

    Returns: keras.Model from {user: ids, item: ids} to [B, 1] float32.

    Raises: ValueError where one of the two features is missing.

    Source: He et al., Neural Collaborative Filtering, WWW 2017, eq. 12.

    Example:
      >>> from recops.features import SparseFeature
      >>> NeuralCF([SparseFeature("user", 9), SparseFeature("item", 19)]).output_shape
      (None, 1)
    """
    pair = [feature for name in (user, item) for feature in features if feature.name == name]
    if len(pair) != 2:
        raise ValueError(
            f"NeuralCF: needs the features {user!r} and {item!r}, got "
            f"{', '.join(feature.name for feature in features) or 'none'}"
        )
    parts = Parts(
        "NeuralCF",
        pair,
        min_fields=2,
        task=task,
        seed=seed,
        backend=backend,
        l2_embedding=l2_embedding,
        l2_embedding_rows=l2_embedding_rows,
    )
    factors = PairwiseHadamard(backend=backend, name="product")(
        parts.embeddings("mf_embedding", mf_dim)
    )  # [B, 1, D]
    x = keras.layers.Flatten()(parts.embeddings("mlp_embedding", mlp_dim or mf_dim))
    deep = parts.hidden(
        x, hidden_units, activation, dropout, l2_hidden, use_bn=use_bn, bn_momentum=bn_momentum
    )
    joined = join(keras.layers.Flatten()(factors), deep)
    return parts.model(parts.logit(joined, use_bias=True, name="output_logit"))
