"""DeepFM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recops._core.compat import keras
from recops.features import Feature
from recops.layers import FM
from recops.models._parts import Parts


def DeepFM(
    features: Sequence[Feature],
    *,
    hidden_units: Sequence[int] = (128, 64, 32),
    activation: Any = "relu",
    dropout: float | Sequence[float] = 0.0,
    use_bn: bool = False,
    bn_momentum: float = 0.9,
    l2_linear: float = 0.0,
    l2_hidden: float = 0.0,
    l2_embedding: float = 0.0,
    l2_embedding_rows: str = "all",
    task: str = "binary",
    backend: str | None = None,
    seed: int | None = None,
) -> Any:
    """DeepFM: a factorization machine and hidden layers on the same embeddings.

        y = sigmoid(w . [embeddings, numbers] + sum_{i<j} <e_i, e_j> + h . deep + b)

    The first order weighs numbers and flat embeddings without bias or activation; the second is
    that of the fields' embeddings alone.

    Args:
      features: two or more sparse or sequence features of one embedding_dim, and any dense ones.
      hidden_units, activation, dropout: of the deep part, as in `MLP`.
      use_bn, bn_momentum: batch normalization before each hidden layer's activation, as in `MLP`.
      l2_linear, l2_hidden, l2_embedding: L2 penalties.
      l2_embedding_rows: which rows of its tables the penalties hold back: "all" reads and moves
        them in each step; of "batch", the rows in use alone, so that a table's gradient stays
        sparse. See `FusedEmbedding`.
      task: "binary" or "regression".
      backend: of all layers. seed: of initial weights and dropout.

    Defaults: hidden_units=(128, 64, 32), activation="relu", dropout=0.0, use_bn=False,
    bn_momentum=0.9, l2_linear=0.0, l2_hidden=0.0, l2_embedding=0.0, l2_embedding_rows="all",
    task="binary".

    Returns: keras.Model from {feature name: values} to [B, 1] float32. The bias is the deep part's.

    Raises: ValueError for fewer than two fields or contradicting features.

    Source: Guo et al., DeepFM, IJCAI 2017.

    Example:
      >>> from recops.features import DenseFeature, SparseFeature
      >>> features = [SparseFeature("user", 9), SparseFeature("item", 19), DenseFeature("price")]
      >>> DeepFM(features, seed=1).output_shape
      (None, 1)
    """
    parts = Parts(
        "DeepFM",
        features,
        min_fields=2,
        task=task,
        seed=seed,
        backend=backend,
        l2_embedding=l2_embedding,
        l2_embedding_rows=l2_embedding_rows,
    )
    embeddings = parts.embeddings()  # [B, F, D]
    x = parts.with_numbers(keras.layers.Flatten()(embeddings))  # [B, F D + n]
    first = parts.logit(x, use_bias=False, name="linear", penalty=l2_linear)
    second = FM(backend=backend, name="interaction", dtype="float32")(embeddings)
    deep = parts.hidden(
        x, hidden_units, activation, dropout, l2_hidden, use_bn=use_bn, bn_momentum=bn_momentum
    )
    return parts.model(first, second, parts.logit(deep, use_bias=True, name="deep"))
