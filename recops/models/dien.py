"""Deep interest evolution network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recops.features import Feature, SequenceFeature
from recops.layers import InterestEvolution, InterestExtractor
from recops.models._parts import Parts, join


def DIEN(
    features: Sequence[Feature],
    *,
    gru_type: str = "augru",
    augru_form: str = "paper",
    auxiliary_loss: bool = True,
    auxiliary_weight: float = 1.0,
    auxiliary_units: Sequence[int] = (100, 50),
    reduction: str = "masked_mean",
    attention_units: Sequence[int] = (80, 40),
    attention_activation: Any = "sigmoid",
    reset_after: bool = False,
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
    """Deep interest evolution network: a GRU finds interests, a second follows those near the item.

        y = sigmoid(b + h . deep(BN([embeddings, evolution(item, extractor(clicks)), numbers])))

    Args:
      features: one or more `SequenceFeature`s with `target`, the sparse features that they are of,
        and any others of the same embedding_dim; for the auxiliary loss also each history's sampled
        negatives (`negative_of`). Candidate, history and negatives read one table. Lists without a
        target are pooled, histories in sessions are left out.
      gru_type: of the evolution, "augru", "agru", "aigru", or "gru" with attention after it.
      augru_form: of AUGRU, "paper" or "alibaba", the form of the authors' code, see `DynamicGRU`.
      auxiliary_loss: add the loss by which each interest tells the next click from a sampled one.
        Without it sampled negatives are no input.
      auxiliary_weight, auxiliary_units, reduction: of that loss, as in `InterestExtractor`.
      attention_units, attention_activation: of the scores, as in `TargetAttention`.
      reset_after: of both GRUs, as in `DynamicGRU`.
      hidden_units, activation, dropout: of the deep part, as in `MLP`.
      use_bn, bn_momentum: batch normalization: "input" of what the hidden layers read;
        True also before each hidden layer's activation, as in `MLP`.
      l2_hidden, l2_embedding: L2 penalties.
      l2_embedding_rows: which rows of its tables the penalties hold back: "all" reads and moves
        them in each step; of "batch", the rows in use alone, so that a table's gradient stays
        sparse. See `FusedEmbedding`.
      task: "binary" or "regression".
      backend: of all layers. seed: of initial weights and dropout.

    Defaults: gru_type="augru", augru_form="paper", auxiliary_loss=True, auxiliary_weight=1.0,
    auxiliary_units=(100, 50), reduction="masked_mean", attention_units=(80, 40),
    attention_activation="sigmoid", reset_after=False, hidden_units=(200, 80), activation="dice",
    use_bn="input", bn_momentum=0.9, dropout=0.0, l2_hidden=0.0, l2_embedding=0.0,
    l2_embedding_rows="all", task="binary".

    Returns: keras.Model from {feature name: values} to [B, 1] float32.

    Raises: ValueError without a history, for one whose target is missing, or with the auxiliary
    loss for one without negatives of its length.

    Source: Zhou et al., Deep Interest Evolution Network, AAAI 2019.

    Example:
      >>> from recops.features import SequenceFeature, SparseFeature
      >>> item = SparseFeature("item", 19)
      >>> clicks = SequenceFeature("clicks", 19, max_length=5, target="item")
      >>> others = SequenceFeature("others", 19, max_length=5, negative_of="clicks")
      >>> DIEN([item, clicks, others], hidden_units=[8]).output_shape
      (None, 1)
    """
    parts = Parts(
        "DIEN",
        features,
        sequences="histories",
        keep_negatives=auxiliary_loss,
        task=task,
        seed=seed,
        backend=backend,
        l2_embedding=l2_embedding,
        l2_embedding_rows=l2_embedding_rows,
    )
    negatives = _negatives(parts) if auxiliary_loss else {}
    embedded, masks = parts.steps()
    evolved = []
    for feature in parts.histories:
        name, mask = feature.name, masks[feature.name]
        extractor = InterestExtractor(
            auxiliary_units=auxiliary_units,
            auxiliary_weight=auxiliary_weight,
            reduction=reduction,
            reset_after=reset_after,
            seed=parts.seed(),
            backend=backend,
            name=f"interests_{name}",
        )
        others = (embedded[negatives[name].name],) if auxiliary_loss else ()
        interests = extractor(embedded[name], *others, mask=mask)  # [B, T, D]
        evolution = InterestEvolution(
            gru_type,
            augru_form,
            attention_units,
            attention_activation,
            reset_after,
            seed=parts.seed(),
            backend=backend,
            name=f"evolution_{name}",
        )
        target = embedded[parts.target_of(feature).name]
        evolved.append(evolution(target, interests, mask=mask))  # [B, D]
    fields = [embedded[f.name] for f in parts.fields if f.name not in masks]  # [B, D] each
    x = parts.with_numbers(join(*fields, *evolved))
    deep = parts.normalized_hidden(
        x, hidden_units, activation, dropout, l2_hidden, use_bn, bn_momentum
    )
    return parts.model(parts.logit(deep, use_bias=True, name="deep"))


def _negatives(parts: Parts) -> dict[str, SequenceFeature]:
    """The sampled negatives of each history, by its name."""
    negatives = {f.negative_of: f for f in parts.negatives if f.negative_of}
    for history in parts.histories:
        found = negatives.get(history.name)
        if found is None:
            raise ValueError(
                f"DIEN: the auxiliary loss needs sampled negatives of {history.name!r}: add "
                f"SequenceFeature(..., max_length={history.max_length}, "
                f"negative_of={history.name!r}) to the features, or set auxiliary_loss=False"
            )
        if found.max_length != history.max_length:
            raise ValueError(
                f"DIEN: {found.name!r} holds a negative for each step of {history.name!r}, so its "
                f"max_length must be {history.max_length}, got {found.max_length}"
            )
    return negatives
