"""Neural factorization machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recops.features import Feature
from recops.layers import BiInteraction
from recops.models._parts import Parts

_RATES = (0.5, 0.3, 0.1)


def NFM(
    features: Sequence[Feature],
    *,
    hidden_units: Sequence[int] = (1024, 512, 256),
    activation: Any = "relu",
    dropout: float | Sequence[float] | None = None,
    use_bn: bool | str = "input",
    bn_momentum: float = 0.9,
    l1_linear: float = 0.0,
    l2_linear: float = 0.0,
    l2_hidden: float = 0.0,
    l2_embedding: float = 0.0,
    l2_embedding_rows: str = "all",
    task: str = "binary",
    backend: str | None = None,
    seed: int | None = None,
) -> Any:
    """Neural factorization machine: hidden layers on the pooled products of all pairs.

        y = sigmoid(b + w . x + h . deep(BN([sum_{i<j} e_i * e_j, numbers])))

    Args:
      features: two or more sparse or sequence features of one embedding_dim, and any dense ones.
      hidden_units, activation: of the deep part, as in `MLP`.
      dropout: as in `MLP`; None is 0.5, 0.3 and then 0.1 in every further layer.
      use_bn, bn_momentum: batch normalization: "input" of what the hidden layers read;
        True also before each hidden layer's activation, as in `MLP`.
      l1_linear, l2_linear: penalties of the first-order weights.
      l2_hidden, l2_embedding: L2 penalties.
      l2_embedding_rows: which rows of its tables the penalties hold back: "all" reads and moves
        them in each step; of "batch", the rows in use alone, so that a table's gradient stays
        sparse. See `FusedEmbedding`.
      task: "binary" or "regression".
      backend: of all layers. seed: of initial weights and dropout.

    Defaults: hidden_units=(1024, 512, 256), activation="relu", use_bn="input", bn_momentum=0.9,
    l1_linear=0.0, l2_linear=0.0, l2_hidden=0.0, l2_embedding=0.0, l2_embedding_rows="all",
    task="binary".

    Returns: keras.Model from {feature name: values} to [B, 1] float32. The bias is the first
    order's; the deep part ends without one.

    Raises: ValueError for fewer than two fields or contradicting features.

    Source: He & Chua, Neural Factorization Machines, SIGIR 2017.

    Example:
      >>> from recops.features import SparseFeature
      >>> NFM([SparseFeature("user", 9), SparseFeature("item", 19)], hidden_units=[8]).output_shape
      (None, 1)
    """
    parts = Parts(
        "NFM",
        features,
        min_fields=2,
        task=task,
        seed=seed,
        backend=backend,
        l2_embedding=l2_embedding,
        l2_embedding_rows=l2_embedding_rows,
    )
    if dropout is None:
        dropout = [_RATES[min(i, len(_RATES) - 1)] for i in range(len(hidden_units))]
    first = parts.linear(l1_linear, l2_linear)
    pooled = BiInteraction(backend=backend, name="interaction")(parts.embeddings())  # [B, D]
    x = parts.with_numbers(pooled)
    deep = parts.normalized_hidden(
        x, hidden_units, activation, dropout, l2_hidden, use_bn, bn_momentum
    )
    return parts.model(first, parts.logit(deep, use_bias=False, name="deep"))
