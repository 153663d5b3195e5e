"""Layer of DIN's activation unit: a target's attention over a history."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from recops import ops
from recops._core import checks, compat
from recops._core.activations import ACTIVATIONS
from recops._core.compat import keras
from recops._core.numerics import accumulate
from recops.layers.base import OpLayer, build_child, kept, positive, varied
from recops.layers.mlp import Dice, activation_layer
from recops.ops.target_attention.unit import folded, weigh, without_padding


@compat.serializable
class TargetAttention(OpLayer):
    """Attention of a target over a history (DIN): [B, D], [B, T, D] -> [B, D].

        score[b, t] = MLP([q, k, q - k, q * k])         q = query[b], k = keys[b, t]
        out[b] = sum_t softmax_t(score[b])_t keys[b, t]

    See `recops.ops.target_attention`.

    Args:
      hidden_units: widths of the MLP's hidden layers; one linear unit follows. () is allowed.
      activation: after each hidden layer. "sigmoid", "relu", "tanh" and "linear" are part of the
        op; any other of Keras, "dice" and "prelu" run between TensorFlow's products.
      weight_normalization: softmax over the kept keys; False weighs by the scores themselves.
      return_weights: also return the weights, [B, T].
      kernel_initializer, bias_initializer, kernel_regularizer: as in `keras.layers.Dense`, each
        kernel with numbers of its own.
      seed: of the kernels.
      backend: which backend runs; None leaves the choice to recops.

    Defaults: hidden_units=(80, 40), activation="sigmoid", weight_normalization=True,
    return_weights=False, kernel_initializer="glorot_uniform", bias_initializer="zeros".

    Call: query [B, D] and keys [B, T, D], float, D static; mask [B, T] bool, True = keep, None is
    the one that Keras carries with the keys, or keeps all; training, for Dice. Returns [B, D], or
    ([B, D], [B, T]), in the compute dtype; 0 in a row that keeps no key. The unit has no last bias
    with a softmax, which would not see it.

    Source: Zhou et al., Deep Interest Network, KDD 2018, section 4.3.

    Example:
      >>> import numpy as np
      >>> query, keys = np.ones((2, 3), "float32"), np.ones((2, 5, 3), "float32")
      >>> TargetAttention(activation="dice")(query, keys).shape
      TensorShape([2, 3])
    """

    def __init__(
        self,
        hidden_units: Sequence[int] = (80, 40),
        activation: Any = "sigmoid",
        weight_normalization: bool = True,
        return_weights: bool = False,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        seed: int | None = None,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        self.supports_masking = True
        self.hidden_units = tuple(hidden_units)
        for i, units in enumerate(self.hidden_units):
            positive(self, **{f"hidden_units[{i}]": units})
        self.activation = activation
        self.weight_normalization = weight_normalization
        self.return_weights = return_weights
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.seed = seed
        self.fused = self._activation() in (None, *ACTIVATIONS)
        # One slope a channel, not one a step and channel.
        shared = {"shared_axes": [1]} if activation == "prelu" else {}
        self.activations = [
            activation_layer(activation, name=f"activation_{i}", dtype=self.dtype_policy, **shared)
            for i in range(0 if self.fused else len(self.hidden_units))
        ]

    def _activation(self) -> Any:
        """The activation in a form that a config can hold."""
        if isinstance(self.activation, (str, dict, type(None))):
            return self.activation
        return keras.activations.serialize(self.activation)

    def build(self, query_shape: Any, keys_shape: Any = None, mask_shape: Any = None) -> None:
        dim = tuple(query_shape)[-1]
        if dim is None:
            raise ValueError(
                f"TargetAttention: expected a query [B, D] with a static D, got {query_shape}"
            )
        widths = (4 * dim, *self.hidden_units, 1)
        self.kernels = [
            self.add_weight(
                name=f"kernel_{i}",
                shape=shape,
                initializer=self._initializer(i),
                regularizer=self.kernel_regularizer,
            )
            for i, shape in enumerate(itertools.pairwise(widths))
        ]
        biased = self.hidden_units if self.weight_normalization else widths[1:]
        self.biases = [
            self.add_weight(name=f"bias_{i}", shape=(units,), initializer=self.bias_initializer)
            for i, units in enumerate(biased)
        ]
        for activation, units in zip(self.activations, self.hidden_units):
            build_child(activation, (None, None, units))
        self.built = True

    def _initializer(self, i: int) -> Any:
        initializer = self.kernel_initializer
        config: dict[str, Any] = getattr(initializer, "get_config", dict)()
        if self.seed is not None and "seed" in config:
            initializer = type(initializer).from_config({**config, "seed": self.seed})
        return varied(initializer, i)

    def call(self, query: Any, keys: Any, mask: Any = None, training: Any = None) -> Any:
        mask = kept(mask, keys)
        # Keras 2 casts the first argument alone.
        query, keys = (tf.cast(x, self.compute_dtype) for x in (query, keys))
        if self.fused:
            pooled, weights = ops.target_attention(
                query,
                keys,
                self.kernels,
                self.biases,
                mask,
                self._activation(),
                self.weight_normalization,
                backend=self.backend or "auto",
            )
        else:
            pooled, weights = self._layer_by_layer(query, keys, mask, training)
        return (pooled, weights) if self.return_weights else pooled

    def _layer_by_layer(self, query: Any, keys: Any, mask: Any, training: Any) -> Any:
        query = checks.floats("TargetAttention", "query", query, "B D")
        keys = checks.floats("TargetAttention", "keys", keys, f"B T {query.shape[1]}")
        if mask is None:
            mask = tf.ones(tf.shape(keys)[:2], tf.bool)
        mask = checks.mask("TargetAttention", "mask", mask, checks.sizes(keys, 0, 1))
        keys = without_padding(keys, mask)
        scores = self.scores(query, keys, mask, training)
        return accumulate(weigh)(scores, keys, mask, normalize=self.weight_normalization)

    def scores(self, query: Any, keys: Any, counted: Any, training: Any) -> tf.Tensor:
        """The unit's scores [B, T], layer by layer; Dice's statistics are of what is counted."""
        kernels, biases = ([compat.as_tensor(w) for w in ws] for ws in (self.kernels, self.biases))
        own, of_query, _ = folded(query, kernels[0])
        x = tf.matmul(keys, own) + tf.matmul(query, of_query)[:, None]
        for i, activation in enumerate(self.activations):
            x = tf.nn.bias_add(x, biases[i])
            if isinstance(activation, Dice):
                x = activation(x, training=training, mask=counted)
            else:
                x = activation(x)
            x = tf.tensordot(x, kernels[i + 1], 1)
        if not self.weight_normalization:
            x = tf.nn.bias_add(x, biases[-1])
        return tf.squeeze(x, axis=2)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        return None

    def compute_output_shape(
        self, query_shape: Any, keys_shape: Any = None, mask_shape: Any = None
    ) -> Any:
        pooled = tuple(query_shape)
        return (pooled, tuple(keys_shape)[:2]) if self.return_weights else pooled

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "hidden_units": list(self.hidden_units),
            "activation": self._activation(),
            "weight_normalization": self.weight_normalization,
            "return_weights": self.return_weights,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "seed": self.seed,
        }
