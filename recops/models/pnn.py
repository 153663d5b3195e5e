"""Product-based neural network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recops._core import checks
from recops._core.compat import keras
from recops.features import Feature
from recops.layers import Dense, InnerProduct, OuterProduct
from recops.layers.dropout import Dropout
from recops.layers.mlp import activation_layer, batch_normalization, dropout_rates
from recops.models._parts import Parts, l2

_PRODUCTS = ("inner", "outer", "both")
_PAIRS = ("upper", "full")


def PNN(
    features: Sequence[Feature],
    *,
    product: str = "inner",
    pairs: str = "upper",
    hidden_units: Sequence[int] = (256, 128, 64),
    activation: Any = "relu",
    dropout: float | Sequence[float] = 0.0,
    use_bn: bool = False,
    bn_momentum: float = 0.9,
    l2_hidden: float = 0.0,
    l2_embedding: float = 0.0,
    l2_embedding_rows: str = "all",
    task: str = "binary",
    backend: str | None = None,
    seed: int | None = None,
) -> Any:
    """Product-based neural network: hidden layers on the embeddings and the products of pairs.

        l = relu(W_z z + W_p p + b)        y = sigmoid(w . deep([l, numbers]) + b')

    z are the flat embeddings, p their products. The dense features stand beside the product layer's
    output, so that their negative values live.

    Args:
      features: two or more sparse or sequence features of one embedding_dim, and any dense ones.
      product: "inner", p = <e_i, e_j>; "outer", p = s s^T of the sum s of the embeddings; "both".
      pairs: inner products of "upper", the pairs i < j, or "full", all F^2 with each field's own.
      hidden_units: of the product layer and the layers after it; at least one.
      activation, dropout: of all of them, as in `MLP`.
      use_bn, bn_momentum: batch normalization before each hidden layer's activation, as in `MLP`.
      l2_hidden, l2_embedding: L2 penalties.
      l2_embedding_rows: which rows of its tables the penalties hold back: "all" reads and moves
        them in each step; of "batch", the rows in use alone, so that a table's gradient stays
        sparse. See `FusedEmbedding`.
      task: "binary" or "regression".
      backend: of all layers. seed: of initial weights and dropout.

    Defaults: product="inner", pairs="upper", hidden_units=(256, 128, 64), activation="relu",
    dropout=0.0, use_bn=False, bn_momentum=0.9, l2_hidden=0.0, l2_embedding=0.0,
    l2_embedding_rows="all", task="binary".

    Returns: keras.Model from {feature name: values} to [B, 1] float32.

    Raises: ValueError for fewer than two fields, no hidden unit, contradicting features or an
    unknown product.

    Source: Qu et al., Product-based Neural Networks, ICDM 2016.

    Example:
      >>> from recops.features import SparseFeature
      >>> PNN([SparseFeature("user", 9), SparseFeature("item", 19)], product="both").output_shape
      (None, 1)
    """
    checks.choice("PNN", "product", product, _PRODUCTS)
    checks.choice("PNN", "pairs", pairs, _PAIRS)
    if not hidden_units:
        raise ValueError("PNN: hidden_units must name at least the product layer's width, got none")
    rates = dropout_rates(dropout, len(hidden_units), "PNN")
    parts = Parts(
        "PNN",
        features,
        min_fields=2,
        task=task,
        seed=seed,
        backend=backend,
        l2_embedding=l2_embedding,
        l2_embedding_rows=l2_embedding_rows,
    )
    embeddings = parts.embeddings()  # [B, F, D]

    def weighed(x: Any, use_bias: bool, name: str) -> Any:
        return Dense(
            hidden_units[0],
            use_bias=use_bias,
            kernel_initializer=parts.glorot(),
            kernel_regularizer=l2(l2_hidden),
            backend=backend,
            name=name,
        )(x)

    signals = [weighed(keras.layers.Flatten()(embeddings), True, "linear_signal")]
    if product in ("inner", "both"):
        if pairs == "upper":
            inner = InnerProduct(backend=backend, name="inner")(embeddings)  # [B, P]
        else:
            gram = keras.layers.Dot(axes=2, name="inner")([embeddings, embeddings])
            inner = keras.layers.Flatten()(gram)  # [B, F * F]
        signals.append(weighed(inner, False, "inner_signal"))
    if product in ("outer", "both"):
        outer = OuterProduct(
            hidden_units[0],
            kernel_initializer=parts.glorot(),
            kernel_regularizer=l2(l2_hidden),
            backend=backend,
            name="outer_signal",
        )
        signals.append(outer(embeddings))
    x = keras.layers.Add(name="product")(signals)  # [B, H1]
    if use_bn:
        x = batch_normalization(bn_momentum, name="product_normalization")(x)
    x = activation_layer(activation, name="product_activation")(x)
    x = Dropout(rates[0], seed=parts.seed())(x)
    x = parts.with_numbers(x)
    x = parts.hidden(
        x,
        hidden_units[1:],
        activation,
        rates[1:],
        l2_hidden,
        use_bn=use_bn,
        bn_momentum=bn_momentum,
    )
    return parts.model(parts.logit(x, use_bias=True, name="deep"))
