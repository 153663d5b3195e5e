"""Deep session interest network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recops.features import Feature
from recops.layers import SessionInterest
from recops.models._parts import Parts, join


def DSIN(
    features: Sequence[Feature],
    *,
    num_heads: int = 1,
    lstm_layers: int = 2,
    res_layers: int = 0,
    use_layer_norm: bool = True,
    use_positional: str | None = "bias",
    causal: bool = False,
    mask_diagonal: bool = False,
    attention_units: Sequence[int] = (80, 40),
    attention_activation: Any = "sigmoid",
    weight_normalization: bool = True,
    hidden_units: Sequence[int] = (200, 80),
    activation: Any = "relu",
    use_bn: bool | str = False,
    bn_momentum: float = 0.9,
    dropout: float = 0.0,
    l2_hidden: float = 0.0,
    l2_embedding: float = 0.0,
    l2_embedding_rows: str = "all",
    task: str = "binary",
    backend: str | None = None,
    seed: int | None = None,
) -> Any:
    """Deep session interest network: what each session was about, and how that went on.

        y = sigmoid(b + h . deep([embeddings, interests(item, sessions), numbers]))

    Args:
      features: one or more `SequenceFeature`s with `target` and `sessions`, the sparse features
        that they are of, and any others of the same embedding_dim; lists without a target are
        pooled, histories that are not cut into sessions and sampled negatives are left out.
      num_heads, lstm_layers, res_layers, use_layer_norm, use_positional, causal, mask_diagonal,
        weight_normalization: of each `SessionInterest`.
      attention_units, attention_activation: of its two `TargetAttention`s.
      hidden_units, activation: of the deep part, as in `MLP`.
      use_bn, bn_momentum: batch normalization: "input" of what the hidden layers read: the
        interests are of unit scale, the other embeddings start small;
        True also before each hidden layer's activation, as in `MLP`.
      dropout: rate in the session interests and after each hidden layer.
      l2_hidden, l2_embedding: L2 penalties.
      l2_embedding_rows: which rows of its tables the penalties hold back: "all" reads and moves
        them in each step; of "batch", the rows in use alone, so that a table's gradient stays
        sparse. See `FusedEmbedding`.
      task: "binary" or "regression".
      backend: of all layers. seed: of initial weights and dropout.

    Defaults: num_heads=1, lstm_layers=2, res_layers=0, use_layer_norm=True, use_positional="bias",
    causal=False, mask_diagonal=False, attention_units=(80, 40), attention_activation="sigmoid",
    weight_normalization=True, hidden_units=(200, 80), activation="relu", use_bn=False,
    bn_momentum=0.9, dropout=0.0, l2_hidden=0.0, l2_embedding=0.0, l2_embedding_rows="all",
    task="binary".

    Returns: keras.Model from {feature name: values} to [B, 1] float32.

    Raises: ValueError without a history in sessions, for one whose target is missing, or when
    num_heads does not divide the embedding_dim.

    Source: Feng et al., Deep Session Interest Network, IJCAI 2019.

    Example:
      >>> from recops.features import SequenceFeature, SparseFeature
      >>> item = SparseFeature("item", 19)
      >>> clicks = SequenceFeature("clicks", 19, max_length=4, target="item", sessions=3)
      >>> DSIN([item, clicks], hidden_units=[8]).output_shape
      (None, 1)
    """
    parts = Parts(
        "DSIN",
        features,
        sequences="sessions",
        task=task,
        seed=seed,
        backend=backend,
        l2_embedding=l2_embedding,
        l2_embedding_rows=l2_embedding_rows,
    )
    embedded, masks = parts.steps()
    interests = [
        SessionInterest(
            num_heads,
            lstm_layers,
            res_layers,
            attention_units,
            attention_activation,
            weight_normalization,
            dropout,
            use_layer_norm,
            use_positional,
            causal,
            mask_diagonal,
            seed=parts.seed(),
            backend=backend,
            name=f"interest_{feature.name}",
        )(
            embedded[parts.target_of(feature).name],
            embedded[feature.name],
            mask=masks[feature.name],
        )  # [B, 2 D]
        for feature in parts.sessions
    ]
    fields = [embedded[f.name] for f in parts.fields if f.name not in masks]  # [B, D] each
    x = parts.with_numbers(join(*fields, *interests))
    deep = parts.normalized_hidden(
        x, hidden_units, activation, dropout, l2_hidden, use_bn, bn_momentum
    )
    return parts.model(parts.logit(deep, use_bias=True, name="deep"))
