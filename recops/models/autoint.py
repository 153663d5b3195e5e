"""AutoInt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recops._core.compat import keras
from recops.features import Feature
from recops.layers import InteractingLayer, NumberEmbedding
from recops.models._parts import Parts, l2


def AutoInt(
    features: Sequence[Feature],
    *,
    num_layers: int = 3,
    num_heads: int = 2,
    head_dim: int = 8,
    use_res: bool = True,
    scaling: bool = False,
    embed_numeric: bool = True,
    hidden_units: Sequence[int] = (),
    activation: Any = "relu",
    dropout: float | Sequence[float] = 0.0,
    use_bn: bool = False,
    bn_momentum: float = 0.9,
    l2_attention: float = 0.0,
    l2_hidden: float = 0.0,
    l2_embedding: float = 0.0,
    l2_embedding_rows: str = "all",
    task: str = "binary",
    backend: str | None = None,
    seed: int | None = None,
) -> Any:
    """AutoInt: interactions of rising order by self-attention over the fields.

        e = [embeddings, x_m v_m]    e <- relu(heads(e) + e W_res), num_layers times
        y = sigmoid(b + w . flat(e) + h . deep([flat(embeddings), numbers]))

    Args:
      features: two or more sparse or sequence features of one embedding_dim, and any dense ones.
      num_layers: interacting layers; k of them reach interactions of order 2^k.
      num_heads, head_dim, use_res, scaling: of each, as in `InteractingLayer`.
      embed_numeric: let each number x_m join the fields with a vector v_m of its own; else the
        numbers enter the hidden layers alone.
      hidden_units, activation, dropout: of the deep part, as in `MLP`; no units (the paper's
        AutoInt) is no deep part, units make it AutoInt+.
      use_bn, bn_momentum: batch normalization before each hidden layer's activation, as in `MLP`.
      l2_attention, l2_hidden, l2_embedding: L2 penalties.
      l2_embedding_rows: which rows of its tables the penalties hold back: "all" reads and moves
        them in each step; of "batch", the rows in use alone, so that a table's gradient stays
        sparse. See `FusedEmbedding`.
      task: "binary" or "regression".
      backend: of all layers. seed: of initial weights and dropout.

    Defaults: num_layers=3, num_heads=2, head_dim=8, use_res=True, scaling=False,
    embed_numeric=True, hidden_units=(), activation="relu", dropout=0.0, use_bn=False,
    bn_momentum=0.9, l2_attention=0.0, l2_hidden=0.0, l2_embedding=0.0, l2_embedding_rows="all",
    task="binary".

    Returns: keras.Model from {feature name: values} to [B, 1] float32.

    Raises: ValueError for fewer than two fields, contradicting features, or numbers that neither
    part would read.

    Source: Song et al., AutoInt, CIKM 2019. The authors' code scales no scores, as here.

    Example:
      >>> from recops.features import DenseFeature, SparseFeature
      >>> features = [SparseFeature("user", 9), SparseFeature("item", 19), DenseFeature("price")]
      >>> AutoInt(features, num_layers=2).get_layer("interaction_1").output.shape
      (None, 3, 16)
    """
    parts = Parts(
        "AutoInt",
        features,
        min_fields=2,
        task=task,
        seed=seed,
        backend=backend,
        l2_embedding=l2_embedding,
        l2_embedding_rows=l2_embedding_rows,
    )
    if num_layers < 1:
        raise ValueError(f"AutoInt: num_layers must be 1 or more, got {num_layers}")
    if parts.numbers and not embed_numeric and not hidden_units:
        raise ValueError(
            f"AutoInt: nothing would read {', '.join(f.name for f in parts.numbers)}: set "
            f"embed_numeric=True or give hidden_units"
        )
    embeddings = parts.embeddings()  # [B, F, D]
    x = embeddings
    if parts.numbers and embed_numeric:
        layer = NumberEmbedding(
            parts.fields[0].embedding_dim,
            embeddings_initializer=keras.initializers.RandomUniform(seed=parts.seed()),
            embeddings_regularizer=l2(l2_embedding),
            backend=backend,
            name="numbers",
        )
        x = keras.layers.Concatenate(axis=1)([x, layer(parts.with_numbers(None))])
    for i in range(num_layers):
        x = InteractingLayer(
            num_heads,
            head_dim,
            use_res,
            scaling,
            kernel_initializer=parts.glorot(),
            kernel_regularizer=l2(l2_attention),
            backend=backend,
            name=f"interaction_{i}",
        )(x)  # [B, F + n, N E]
    logits = [parts.logit(keras.layers.Flatten()(x), use_bias=True, name="interaction")]
    if hidden_units:
        deep = parts.with_numbers(keras.layers.Flatten()(embeddings))  # [B, F D + n]
        deep = parts.hidden(
            deep,
            hidden_units,
            activation,
            dropout,
            l2_hidden,
            use_bn=use_bn,
            bn_momentum=bn_momentum,
        )
        logits.append(parts.logit(deep, use_bias=False, name="deep"))
    return parts.model(*logits)
