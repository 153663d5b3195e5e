"""Factorization machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recops.features import Feature
from recops.layers import FM as FMLayer
from recops.models._parts import Parts


def FM(
    features: Sequence[Feature],
    *,
    embedding_dim: int | None = None,
    l1_linear: float = 0.0,
    l2_linear: float = 0.0,
    l2_embedding: float = 0.0,
    l2_embedding_rows: str = "all",
    task: str = "binary",
    backend: str | None = None,
    seed: int | None = None,
) -> Any:
    """Factorization machine: a weight for each id, and the inner products of all pairs of fields.

        y = sigmoid(b + w . x + sum_{i<j} <v_i, v_j>)

    Args:
      features: two or more sparse or sequence features of one embedding_dim; dense features enter
        the first-order term alone.
      embedding_dim: width of the factors; None takes the features' own.
      l1_linear, l2_linear: penalties of the first-order weights.
      l2_embedding: L2 penalty of the factors.
      l2_embedding_rows: which rows of its tables the penalties hold back: "all" reads and moves
        them in each step; of "batch", the rows in use alone, so that a table's gradient stays
        sparse. See `FusedEmbedding`.
      task: "binary" or "regression".
      backend: of all layers. seed: of the initial weights.

    Defaults: l1_linear=0.0, l2_linear=0.0, l2_embedding=0.0, l2_embedding_rows="all",
    task="binary".

    Returns: keras.Model from {feature name: values} to [B, 1] float32.

    Raises: ValueError for fewer than two fields or contradicting features.

    Source: Rendle, Factorization Machines, ICDM 2010.

    Example:
      >>> from recops.features import SparseFeature
      >>> model = FM([SparseFeature("user", 9, 4), SparseFeature("item", 19, 4)])
      >>> model.count_params()  # 10 + 20 ids of 4 factors and a weight, and the bias
      151
    """
    parts = Parts(
        "FM",
        features,
        min_fields=2,
        task=task,
        seed=seed,
        backend=backend,
        l2_embedding=l2_embedding,
        l2_embedding_rows=l2_embedding_rows,
    )
    first = parts.linear(l1_linear, l2_linear)
    embeddings = parts.embeddings(width=embedding_dim)  # [B, F, D]
    second = FMLayer(backend=backend, name="interaction", dtype="float32")(embeddings)
    return parts.model(first, second)
