"""Deep interest network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recops.features import Feature
from recops.layers import TargetAttention
from recops.models._parts import Parts, join


def DIN(
    features: Sequence[Feature],
    *,
    attention_units: Sequence[int] = (80, 40),
    attention_activation: Any = "sigmoid",
    weight_normalization: bool = True,
    hidden_units: Sequence[int] = (200, 80),
    activation: Any = "dice",
    use_bn: bool | str = "input",
    bn_momentum: float = 0.9,
    dropout: float | Sequence[float] = 0.0,
    l2_hidden: float = 0.0,
    l2_embedding: float = 0.0,
    l2_embedding_rows: str = "all",
    task: str = "binary",
    backend: str | None = None,
    seed: int | None = None,
) -> Any:
    """Deep interest network: the candidate picks from the history what it has to do with it.

        y = sigmoid(b + h . deep(BN([embeddings, attention(item, history), numbers])))

    Args:
      features: one or more `SequenceFeature`s with `target`, the sparse features that they are of,
        and any others of the same embedding_dim. A candidate and its history read one table. Lists
        without a target are pooled; histories in sessions and sampled negatives are left out.
      attention_units, attention_activation, weight_normalization: of each history's
        `TargetAttention`. Without the softmax the interest keeps its strength, as in the paper.
      hidden_units, activation, dropout: of the deep part, as in `MLP`.
      use_bn, bn_momentum: batch normalization: "input" of what the hidden layers read;
        True also before each hidden layer's activation, as in `MLP`.
      l2_hidden, l2_embedding: L2 penalties.
      l2_embedding_rows: which rows of its tables the penalties hold back: "all" reads and moves
        them in each step; of "batch", the rows in use alone, so that a table's gradient stays
        sparse. See `FusedEmbedding`.
      task: "binary" or "regression".
      backend: of all layers. seed: of initial weights and dropout.

    Defaults: attention_units=(80, 40), attention_activation="sigmoid", weight_normalization=True,
    hidden_units=(200, 80), activation="dice", use_bn="input", bn_momentum=0.9, dropout=0.0,
    l2_hidden=0.0, l2_embedding=0.0, l2_embedding_rows="all", task="binary".

    Returns: keras.Model from {feature name: values} to [B, 1] float32.

    Raises: ValueError without a history, or for one whose target is missing.

    Source: Zhou et al., Deep Interest Network, KDD 2018; softmax and q - k as the authors' code
    has them.

    Example:
      >>> from recops.features import SequenceFeature, SparseFeature
      >>> item = SparseFeature("item", 19)
      >>> clicks = SequenceFeature("clicks", 19, max_length=5, target="item")
      >>> tuple(DIN([item, clicks]).get_layer("interest_clicks").output.shape)
      (None, 16)
    """
    parts = Parts(
        "DIN",
        features,
        sequences="histories",
        task=task,
        seed=seed,
        backend=backend,
        l2_embedding=l2_embedding,
        l2_embedding_rows=l2_embedding_rows,
    )
    embedded, masks = parts.steps()
    interests = [
        TargetAttention(
            attention_units,
            attention_activation,
            weight_normalization,
            seed=parts.seed(),
            backend=backend,
            name=f"interest_{feature.name}",
        )(
            embedded[parts.target_of(feature).name],
            embedded[feature.name],
            mask=masks[feature.name],
        )  # [B, D]
        for feature in parts.histories
    ]
    fields = [embedded[f.name] for f in parts.fields if f.name not in masks]  # [B, D] each
    x = parts.with_numbers(join(*fields, *interests))
    deep = parts.normalized_hidden(
        x, hidden_units, activation, dropout, l2_hidden, use_bn, bn_momentum
    )
    return parts.model(parts.logit(deep, use_bias=True, name="deep"))
