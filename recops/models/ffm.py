"""Field-aware factorization machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recops._core.compat import keras
from recops.features import Feature
from recops.layers import FFM as FFMLayer
from recops.models._parts import Parts


def FFM(
    features: Sequence[Feature],
    *,
    embedding_dim: int = 8,
    l1_linear: float = 0.0,
    l2_linear: float = 0.0,
    l2_embedding: float = 0.0,
    l2_embedding_rows: str = "all",
    task: str = "binary",
    backend: str | None = None,
    seed: int | None = None,
) -> Any:
    """Field-aware factorization machine: each id has one vector for each field that it meets.

        y = sigmoid(b + w . x + sum_{i<j} <v_{i,j}, v_{j,i}>)

    Args:
      features: two or more sparse or sequence features; dense features enter the first-order term
        alone. Their own embedding_dim is not used.
      embedding_dim: width of each vector; an id has F of them.
      l1_linear, l2_linear: penalties of the first-order weights.
      l2_embedding: L2 penalty of the vectors.
      l2_embedding_rows: which rows of its tables the penalties hold back: "all" reads and moves
        them in each step; of "batch", the rows in use alone, so that a table's gradient stays
        sparse. See `FusedEmbedding`.
      task: "binary" or "regression".
      backend: of all layers. seed: of the initial weights.

    Defaults: embedding_dim=8, l1_linear=0.0, l2_linear=0.0, l2_embedding=0.0,
    l2_embedding_rows="all", task="binary".

    Returns: keras.Model from {feature name: values} to [B, 1] float32.

    Raises: ValueError for fewer than two fields or contradicting features.

    Source: Juan et al., Field-aware Factorization Machines for CTR Prediction, RecSys 2016.

    Example:
      >>> from recops.features import SparseFeature
      >>> model = FFM([SparseFeature("user", 9), SparseFeature("item", 19)], embedding_dim=4)
      >>> model.count_params()  # 30 ids of 2 vectors and a weight, and the bias
      271
    """
    parts = Parts(
        "FFM",
        features,
        min_fields=2,
        task=task,
        seed=seed,
        backend=backend,
        l2_embedding=l2_embedding,
        l2_embedding_rows=l2_embedding_rows,
    )
    count = len(parts.fields)
    first = parts.linear(l1_linear, l2_linear)
    vectors = parts.embeddings(width=count * embedding_dim)  # [B, F, F * D]
    vectors = keras.layers.Reshape((count, count, embedding_dim))(vectors)  # [B, F, F, D]
    second = FFMLayer(backend=backend, name="interaction", dtype="float32")(vectors)
    return parts.model(first, second)
