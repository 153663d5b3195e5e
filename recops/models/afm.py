"""Attentional factorization machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recops._core import checks
from recops._core.compat import keras
from recops.features import Feature
from recops.layers import AttentionalPooling, BiInteraction, PairwiseHadamard
from recops.models._parts import Parts, l2

_POOLINGS = ("att", "avg", "max")


def AFM(
    features: Sequence[Feature],
    *,
    pooling: str = "att",
    attention_factor: int = 8,
    dropout: float = 0.5,
    use_dnn: bool = False,
    use_bn: bool | str = "input",
    bn_momentum: float = 0.9,
    hidden_units: Sequence[int] = (128, 64),
    activation: Any = "relu",
    l1_linear: float = 0.0,
    l2_linear: float = 0.0,
    l2_attention: float = 0.0,
    l2_hidden: float = 0.0,
    l2_embedding: float = 0.0,
    l2_embedding_rows: str = "all",
    task: str = "binary",
    backend: str | None = None,
    seed: int | None = None,
) -> Any:
    """Attentional factorization machine: the products of all pairs, weighed by attention.

        y = sigmoid(b + w . x + h . sum_p a_p (e_i * e_j))
        y = sigmoid(b + w . x + h . deep(BN([sum_p a_p (e_i * e_j), numbers])))     use_dnn

    Args:
      features: two or more sparse or sequence features of one embedding_dim; dense features enter
        the first-order term, and the hidden layers where there are any.
      pooling: "att" (attention), "avg" (mean) or "max" (largest in each dimension) over pairs.
      attention_factor: width of the attention's hidden layer.
      dropout: rate on the pooled pairs and after each hidden layer.
      use_dnn: put hidden layers on the pooled pairs and the numbers.
      use_bn, bn_momentum: batch normalization: "input" of what the hidden layers read;
        True also before each hidden layer's activation, as in `MLP`.
      hidden_units, activation: of the hidden layers, as in `MLP`.
      l1_linear, l2_linear: penalties of the first-order weights.
      l2_attention, l2_hidden, l2_embedding: L2 penalties.
      l2_embedding_rows: which rows of its tables the penalties hold back: "all" reads and moves
        them in each step; of "batch", the rows in use alone, so that a table's gradient stays
        sparse. See `FusedEmbedding`.
      task: "binary" or "regression".
      backend: of all layers. seed: of initial weights and dropout.

    Defaults: pooling="att", attention_factor=8, dropout=0.5, use_dnn=False, use_bn="input",
    bn_momentum=0.9, hidden_units=(128, 64), activation="relu", l1_linear=0.0, l2_linear=0.0,
    l2_attention=0.0, l2_hidden=0.0, l2_embedding=0.0, l2_embedding_rows="all", task="binary".

    Returns: keras.Model from {feature name: values} to [B, 1] float32. The bias is the first
    order's.

    Raises: ValueError for fewer than two fields, contradicting features or an unknown pooling.

    Source: Xiao et al., Attentional Factorization Machines, IJCAI 2017.

    Example:
      >>> from recops.features import SparseFeature
      >>> AFM([SparseFeature("user", 9), SparseFeature("item", 19)], pooling="max").output_shape
      (None, 1)
    """
    checks.choice("AFM", "pooling", pooling, _POOLINGS)
    parts = Parts(
        "AFM",
        features,
        min_fields=2,
        task=task,
        seed=seed,
        backend=backend,
        l2_embedding=l2_embedding,
        l2_embedding_rows=l2_embedding_rows,
    )
    first = parts.linear(l1_linear, l2_linear)
    embeddings = parts.embeddings()  # [B, F, D]
    if pooling == "att":
        pooled = AttentionalPooling(
            attention_factor,
            kernel_initializer=parts.glorot(),
            kernel_regularizer=l2(l2_attention),
            backend=backend,
            name="interaction",
        )(embeddings)
    elif pooling == "avg":
        # The mean of the products needs their sum alone, which forms no pair.
        count = len(parts.fields)
        total = BiInteraction(backend=backend, name="interaction")(embeddings)
        pooled = keras.layers.Rescaling(2 / (count * (count - 1)))(total)
    else:
        pairs = PairwiseHadamard(backend=backend, name="interaction")(embeddings)  # [B, P, D]
        pooled = keras.layers.GlobalMaxPooling1D()(pairs)
    x = keras.layers.Dropout(dropout, seed=parts.seed())(pooled)  # [B, D]
    if use_dnn:
        x = parts.with_numbers(x)
        x = parts.normalized_hidden(
            x, hidden_units, activation, dropout, l2_hidden, use_bn, bn_momentum
        )
    return parts.model(first, parts.logit(x, use_bias=False, name="deep"))
