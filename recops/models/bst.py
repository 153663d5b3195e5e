"""Behavior sequence transformer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recops.features import Feature
from recops.layers import BehaviorTransformer
from recops.models._parts import Parts, join


def BST(
    features: Sequence[Feature],
    *,
    num_blocks: int = 1,
    num_heads: int = 8,
    intermediate_dim: int | None = None,
    transformer_activation: Any = "leaky_relu",
    pooling: str = "flatten",
    hidden_units: Sequence[int] = (1024, 512, 256),
    activation: Any = "leaky_relu",
    use_bn: bool | str = False,
    bn_momentum: float = 0.9,
    dropout: float = 0.2,
    l2_hidden: float = 0.0,
    l2_embedding: float = 0.0,
    l2_embedding_rows: str = "all",
    task: str = "binary",
    backend: str | None = None,
    seed: int | None = None,
) -> Any:
    """Behavior sequence transformer: the history and the candidate attend to each other.

        y = sigmoid(b + h . deep([embeddings, transformer([history, item]), numbers]))

    Args:
      features: one or more `SequenceFeature`s with `target`, the sparse features that they are of,
        and any others of the same embedding_dim; lists without a target are pooled, histories in
        sessions and sampled negatives are left out.
      num_blocks, num_heads, intermediate_dim, pooling: of each `BehaviorTransformer`; num_heads
        divides the embedding_dim.
      transformer_activation: in its feed-forward layers.
      hidden_units, activation: of the deep part, as in `MLP`.
      use_bn, bn_momentum: batch normalization: "input" of what the hidden layers read: the
        transformer's outputs are of unit scale, the other embeddings start small;
        True also before each hidden layer's activation, as in `MLP`.
      dropout: rate in the transformer and after each hidden layer.
      l2_hidden, l2_embedding: L2 penalties.
      l2_embedding_rows: which rows of its tables the penalties hold back: "all" reads and moves
        them in each step; of "batch", the rows in use alone, so that a table's gradient stays
        sparse. See `FusedEmbedding`.
      task: "binary" or "regression".
      backend: of all layers. seed: of initial weights and dropout.

    Defaults: num_blocks=1, num_heads=8, transformer_activation="leaky_relu", pooling="flatten",
    hidden_units=(1024, 512, 256), activation="leaky_relu", use_bn=False, bn_momentum=0.9,
    dropout=0.2, l2_hidden=0.0, l2_embedding=0.0, l2_embedding_rows="all", task="binary".

    Returns: keras.Model from {feature name: values} to [B, 1] float32.

    Raises: ValueError without a history, for one whose target is missing, or when num_heads does
    not divide the embedding_dim.

    Source: Chen et al., Behavior Sequence Transformer, DLP-KDD 2019. Its positions are times, which
    ids do not tell: see `BehaviorTransformer`.

    Example:
      >>> from recops.features import SequenceFeature, SparseFeature
      >>> item = SparseFeature("item", 19)
      >>> clicks = SequenceFeature("clicks", 19, max_length=4, target="item")
      >>> tuple(BST([item, clicks], hidden_units=[8]).get_layer("transformer_clicks").output.shape)
      (None, 80)
    """
    parts = Parts(
        "BST",
        features,
        sequences="histories",
        task=task,
        seed=seed,
        backend=backend,
        l2_embedding=l2_embedding,
        l2_embedding_rows=l2_embedding_rows,
    )
    embedded, masks = parts.steps()
    sequences = [
        BehaviorTransformer(
            num_blocks,
            num_heads,
            intermediate_dim,
            transformer_activation,
            dropout,
            pooling,
            seed=parts.seed(),
            backend=backend,
            name=f"transformer_{feature.name}",
        )(
            embedded[parts.target_of(feature).name],
            embedded[feature.name],
            mask=masks[feature.name],
        )
        for feature in parts.histories
    ]
    fields = [embedded[f.name] for f in parts.fields if f.name not in masks]  # [B, D] each
    x = parts.with_numbers(join(*fields, *sequences))
    deep = parts.normalized_hidden(
        x, hidden_units, activation, dropout, l2_hidden, use_bn, bn_momentum
    )
    return parts.model(parts.logit(deep, use_bias=True, name="deep"))
