"""Wide & Deep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recops._core import checks
from recops.features import Feature
from recops.layers import FM, WideCrosses
from recops.models._parts import Parts


def WideDeep(
    features: Sequence[Feature],
    *,
    wide: str = "linear",
    crosses: Sequence[Sequence[str]] = (),
    num_buckets: int = 100_000,
    hidden_units: Sequence[int] = (256, 128, 64),
    activation: Any = "relu",
    dropout: float | Sequence[float] = 0.0,
    use_bn: bool = False,
    bn_momentum: float = 0.9,
    l1_wide: float = 0.0,
    l2_wide: float = 0.0,
    l2_hidden: float = 0.0,
    l2_embedding: float = 0.0,
    l2_embedding_rows: str = "all",
    task: str = "binary",
    backend: str | None = None,
    seed: int | None = None,
) -> Any:
    """Wide & Deep: a linear model that memorises beside hidden layers that generalise.

        y = sigmoid(b + w . [x, crosses] + h . deep(embeddings, numbers))

    Args:
      features: any features; all of them go to both parts.
      wide: "linear", or "fm", which adds a factorization machine with embeddings of its own (and
        needs two fields). `DeepFM` is the model whose two parts share them.
      crosses: products of features for the wide part, a tuple of names each; see `WideCrosses`.
      num_buckets: most rows of one cross; more combinations are hashed.
      hidden_units, activation, dropout: of the deep part, as in `MLP`.
      use_bn, bn_momentum: batch normalization before each hidden layer's activation, as in `MLP`.
      l1_wide, l2_wide: penalties of the wide weights; L1 makes them sparse.
      l2_hidden, l2_embedding: L2 penalties of the deep part.
      l2_embedding_rows: which rows of its tables the penalties hold back: "all" reads and moves
        them in each step; of "batch", the rows in use alone, so that a table's gradient stays
        sparse. See `FusedEmbedding`.
      task: "binary" or "regression".
      backend: of all layers. seed: of initial weights and dropout.

    Defaults: wide="linear", crosses=(), num_buckets=100000, hidden_units=(256, 128, 64),
    activation="relu", dropout=0.0, use_bn=False, bn_momentum=0.9, l1_wide=0.0, l2_wide=0.0,
    l2_hidden=0.0, l2_embedding=0.0, l2_embedding_rows="all", task="binary".

    Returns: keras.Model from {feature name: values} to [B, 1] float32. The bias is the wide part's.

    Raises: ValueError for contradicting features or crosses that name unfit ones.

    Source: Cheng et al., Wide & Deep Learning for Recommender Systems, DLRS 2016.

    Example:
      >>> from recops.features import DenseFeature, SparseFeature
      >>> features = [SparseFeature("user", 9), SparseFeature("item", 19), DenseFeature("price")]
      >>> WideDeep(features, crosses=[("user", "item")]).output_shape
      (None, 1)
    """
    checks.choice("WideDeep", "wide", wide, ("linear", "fm"))
    parts = Parts(
        "WideDeep",
        features,
        min_fields=2 if wide == "fm" else 0,
        task=task,
        seed=seed,
        backend=backend,
        l2_embedding=l2_embedding,
        l2_embedding_rows=l2_embedding_rows,
    )
    logits = [parts.linear(l1_wide, l2_wide)]
    if crosses:
        products = WideCrosses(
            parts.features,
            crosses,
            num_buckets,
            l1_wide,
            l2_wide,
            parts.l2_embedding_rows,
            backend=backend,
            name="crosses",
            dtype="float32",
        )
        logits.append(products({name: parts.inputs[name] for cross in crosses for name in cross}))
    if wide == "fm":
        fm = FM(backend=backend, name="wide_interaction", dtype="float32")
        logits.append(fm(parts.embeddings("wide_embedding")))
    deep = parts.hidden(
        parts.vector(),
        hidden_units,
        activation,
        dropout,
        l2_hidden,
        use_bn=use_bn,
        bn_momentum=bn_momentum,
    )
    return parts.model(*logits, parts.logit(deep, use_bias=False, name="deep"))
