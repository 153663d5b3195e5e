"""Layers of recops in the form of DeepCTR's, which take lists of [B, 1, D], and lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from recops import ops
from recops._core import checks, compat
from recops._core.compat import keras
from recops._core.numerics import accumulate
from recops.layers import AttentionalPooling, TargetAttention
from recops.layers.base import OpLayer, build_child, static_shape
from recops.ops.target_attention.unit import weigh

_GIVES = ("same", "column", "row", "list")
_KERNEL_TYPES = ("mat", "vec", "num")


@compat.serializable
class FieldsAdapter(OpLayer):
    """A layer of fields [B, F, D] that also takes them one by one: F x [B, 1, D].

    Args:
      layer: of [B, F, D], or its config.
      gives: what is returned for what the layer returns: "same", "column" ([..., 1] of [...]),
        "row" ([B, 1, ...] of [B, ...]) or "list" (F x [B, 1, D] of [B, F, D]).

    Defaults: gives="same".

    Call: inputs [B, F, D], or a list of F tensors [B, 1, D], float.

    Example:
      >>> import numpy as np
      >>> from recops.layers import InnerProduct
      >>> layer = FieldsAdapter(InnerProduct(), gives="column")
      >>> layer([np.ones((2, 1, 3), "float32")] * 4).shape
      TensorShape([2, 6, 1])
    """

    def __init__(self, layer: Any, gives: str = "same", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layer = keras.layers.deserialize(layer) if isinstance(layer, dict) else layer
        self.gives = checks.choice("FieldsAdapter", "gives", gives, _GIVES)

    def build(self, input_shape: Any) -> None:
        # One made of its config may have been built from it.
        if not self.layer.built:
            build_child(self.layer, joined_shape(input_shape))
        self.built = True

    def call(self, inputs: Any, training: Any = None) -> Any:
        x = tf.concat(inputs, axis=1) if isinstance(inputs, (list, tuple)) else inputs
        y = self.layer(x)  # [B, ...]
        if self.gives == "list":
            return tf.split(y, x.shape[1], axis=1)
        axis = {"column": -1, "row": 1}.get(self.gives)
        return y if axis is None else tf.expand_dims(y, axis)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return [None] * len(inputs) if self.gives == "list" else None

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape = tuple(self.layer.compute_output_shape(joined_shape(input_shape)))
        if self.gives == "list":
            return [(shape[0], 1, shape[2]) for _ in range(shape[1])]
        return {"column": (*shape, 1), "row": (shape[0], 1, *shape[1:])}.get(self.gives, shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "layer": keras.layers.serialize(self.layer),
            "gives": self.gives,
        }


def joined_shape(input_shape: Any) -> tuple[int | None, ...]:
    """[B, F, D] of the shape of an input, or of a list of inputs [B, 1, D]."""
    if isinstance(input_shape, tf.TensorShape) or not _many(input_shape):
        return tuple(input_shape)
    first = tuple(input_shape[0])
    return (first[0], len(input_shape), *first[2:])


def _many(input_shape: Any) -> bool:
    return isinstance(input_shape[0], (list, tuple, tf.TensorShape))


@compat.serializable
class AttentionalFM(OpLayer):
    """AFM's attention over pairs down to its logit, with dropout: [B, F, D] -> [B, 1].

    Args:
      attention_factor, kernel_regularizer: as in `recops.layers.AttentionalPooling`.
      dropout: rate, on the pooled pairs.
      seed: of the dropout.
      backend: which backend runs; None leaves the choice to recops.

    Defaults: attention_factor=4, dropout=0.0.

    Call: inputs [B, F, D], float, F >= 2; training. Returns [B, 1].

    Source: Xiao et al., Attentional Factorization Machines, IJCAI 2017, eq. 6.

    Example:
      >>> import numpy as np
      >>> AttentionalFM()(np.ones((2, 4, 3), "float32")).shape
      TensorShape([2, 1])
    """

    def __init__(
        self,
        attention_factor: int = 4,
        kernel_regularizer: Any = None,
        dropout: float = 0.0,
        seed: int | None = None,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        self.rate = dropout
        self.seed = seed
        self.pooling = AttentionalPooling(
            attention_factor,
            kernel_regularizer=kernel_regularizer,
            backend=backend,
            name="pooling",
            dtype=self.dtype_policy,
        )
        # Keras's, so that it draws what the layer that it stands in for would have drawn.
        self.dropout = keras.layers.Dropout(dropout, seed=seed, name="dropout")

    def build(self, input_shape: Any) -> None:
        _, dim = static_shape(self, input_shape, "B F D", 2)
        build_child(self.pooling, input_shape)
        build_child(self.dropout, (input_shape[0], dim))
        self.projection = self.add_weight(
            name="projection", shape=(dim, 1), initializer="glorot_normal"
        )
        self.built = True

    def call(self, inputs: Any, training: Any = None) -> tf.Tensor:
        pooled = self.dropout(self.pooling(inputs), training=training)  # [B, D]
        return tf.matmul(pooled, compat.as_tensor(self.projection))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (input_shape[0], 1)

    def get_config(self) -> dict[str, Any]:
        regularizer = self.pooling.kernel_regularizer
        return {
            **super().get_config(),
            "attention_factor": self.pooling.attention_factor,
            "kernel_regularizer": keras.regularizers.serialize(regularizer),
            "dropout": self.rate,
            "seed": self.seed,
        }


@compat.serializable
class PairKernelProduct(OpLayer):
    """Product of each pair of fields under a kernel of its own: [B, F, D] -> [B, P].

        mat:  x_i W_p . x_j        vec:  sum_d w_pd x_id x_jd        num:  w_p x_i . x_j

    Args:
      kernel_type: "mat", a kernel [P, D, D]; "vec", [P, D]; "num", [P].
      backend: which backend runs; None leaves the choice to recops.

    Defaults: kernel_type="mat".

    Call: inputs [B, F, D], float, F >= 2. Returns [B, P], P = F(F-1)/2.

    Source: Qu et al., Product-based Neural Networks, ICDM 2016, as DeepCTR has it.

    Example:
      >>> import numpy as np
      >>> layer = PairKernelProduct("vec")
      >>> layer(np.ones((2, 4, 3), "float32")).shape, layer.count_params()
      (TensorShape([2, 6]), 18)
    """

    def __init__(self, kernel_type: str = "mat", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kernel_type = checks.choice(
            "PairKernelProduct", "kernel_type", kernel_type, _KERNEL_TYPES
        )

    def build(self, input_shape: Any) -> None:
        fields, dim = static_shape(self, input_shape, "B F D", 2)
        axes = {"mat": (dim, dim), "vec": (dim,), "num": ()}[self.kernel_type]
        self.kernel = self.add_weight(
            name="kernel", shape=(fields * (fields - 1) // 2, *axes), initializer="glorot_uniform"
        )
        self.built = True

    def call(self, inputs: Any) -> tf.Tensor:
        backend = self.backend or "auto"
        kernel = compat.as_tensor(self.kernel)
        if self.kernel_type == "num":
            return ops.pairwise_inner(inputs, backend=backend) * kernel
        if self.kernel_type == "vec":
            return tf.einsum("bpd,pd->bp", ops.pairwise_hadamard(inputs, backend=backend), kernel)
        products = ops.bilinear_interaction(inputs, kernel, "interaction", backend=backend)
        return tf.reduce_sum(products, axis=-1)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        fields, _ = static_shape(self, input_shape, "B F D", 2)
        return (input_shape[0], fields * (fields - 1) // 2)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kernel_type": self.kernel_type}


@compat.serializable
class AttentionSequencePooling(OpLayer):
    """Attention of a target over a history in DeepCTR's form: [B, 1, D], [B, T, D] -> [B, 1, D].

    What differs from `recops.layers.TargetAttention`: Dice's statistics are of padding too, and
    with `weight_normalization` a row without a key is the mean of its padding.

    Args:
      hidden_units, activation, weight_normalization: as in `recops.layers.TargetAttention`.
      return_score: return the weights, [B, 1, T], and not what they pool.
      by_mask: whether padding is told by Keras's mask of the keys; else by their number.
      backend: which backend runs; None leaves the choice to recops.

    Defaults: hidden_units=(80, 40), activation="sigmoid", weight_normalization=False,
    return_score=False, by_mask=False.

    Call: inputs [query [B, 1, D], keys [B, T, D]] with a mask for each, or [query, keys, number of
    keys [B, 1]]; training.

    Example:
      >>> import numpy as np
      >>> query, keys = np.ones((2, 1, 3), "float32"), np.ones((2, 5, 3), "float32")
      >>> AttentionSequencePooling()([query, keys, np.array([[2], [5]])]).shape
      TensorShape([2, 1, 3])
    """

    def __init__(
        self,
        hidden_units: Sequence[int] = (80, 40),
        activation: Any = "sigmoid",
        weight_normalization: bool = False,
        return_score: bool = False,
        by_mask: bool = False,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        self.supports_masking = True
        self.return_score = return_score
        self.by_mask = by_mask
        self.unit = TargetAttention(
            hidden_units,
            activation,
            weight_normalization,
            return_weights=True,
            backend=backend,
            name="unit",
            dtype=self.dtype_policy,
        )

    def build(self, input_shape: Any) -> None:
        query, keys = (tuple(shape) for shape in input_shape[:2])
        with tf.name_scope(self.unit.name):
            self.unit.build((query[0], query[-1]), keys)
        self.built = True

    def call(self, inputs: Any, mask: Any = None, training: Any = None) -> tf.Tensor:
        query, keys = tf.squeeze(inputs[0], axis=1), inputs[1]  # [B, D], [B, T, D]
        kept = self._kept(inputs, mask)
        if self.unit.fused:
            pooled, weights = self.unit(query, keys, mask=kept)
        else:
            scores = self.unit.scores(query, keys, None, training)
            normalize = self.unit.weight_normalization
            pooled, weights = accumulate(weigh)(scores, keys, kept, normalize=normalize)
        if self.unit.weight_normalization:
            empty = ~tf.reduce_any(kept, axis=1, keepdims=True)  # [B, 1]
            pooled = tf.where(empty, tf.reduce_mean(keys, axis=1), pooled)
            share = tf.ones_like(weights) / tf.cast(tf.shape(weights)[1], weights.dtype)
            weights = tf.where(empty, share, weights)
        return (weights if self.return_score else pooled)[:, None]

    def _kept(self, inputs: Any, mask: Any) -> tf.Tensor:
        """[B, T], True at a key."""
        steps = tf.shape(inputs[1])[1]
        if not self.by_mask:
            return tf.sequence_mask(tf.reshape(inputs[2], [-1]), steps)
        if mask is None or mask[-1] is None:
            raise ValueError(f"{self.name}: the keys must carry a mask, as Embedding gives it")
        return tf.cast(mask[-1], tf.bool)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        return None

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        query, keys = (tuple(shape) for shape in input_shape[:2])
        return (query[0], 1, keys[1] if self.return_score else query[-1])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "hidden_units": list(self.unit.hidden_units),
            "activation": self.unit.activation,
            "weight_normalization": self.unit.weight_normalization,
            "return_score": self.return_score,
            "by_mask": self.by_mask,
        }
