"""The Transformer's parts: positions, encoder and decoder."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from recops._core import checks, compat
from recops._core.compat import keras
from recops.layers.attention import MultiHeadAttention, ShapedLayer, kept_inputs, mask_of
from recops.layers.base import OpLayer, build_child, positive, varied
from recops.layers.dense import Dense
from recops.layers.dropout import Dropout

_SCALED = ("tokens", "positions")

Cache = tuple[tf.Tensor, tf.Tensor]


@compat.serializable
class PositionalEncoding(OpLayer):
    """Sines of the position added to embeddings: [B, T, D] -> [B, T, D].

        out[b, t, i] = sqrt(D) x[b, t, i] + sin or cos(t / 10000^(2 floor(i / 2) / D))

    sin for even i, cos for odd i.

    Args:
      max_length: the longest T that is taken; None takes any.
      scale: what is multiplied by sqrt(D): "tokens" (the paper), "positions" (as in DeepCTR) or
        None, nothing.
      backend: taken as in every layer; a sum has one implementation.

    Defaults: scale="tokens".

    Call: inputs [B, T, D], float. Returns their shape in the compute dtype.

    Raises: ValueError for inputs longer than max_length.

    Source: Vaswani et al., Attention Is All You Need, NeurIPS 2017, sections 3.4 and 3.5.

    Example:
      >>> import numpy as np
      >>> PositionalEncoding()(np.zeros((1, 2, 4), "float32")).numpy().round(2)
      array([[[0.  , 1.  , 0.  , 1.  ],
              [0.84, 0.54, 0.01, 1.  ]]], dtype=float32)
    """

    def __init__(
        self,
        max_length: int | None = None,
        scale: str | None = "tokens",
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        if max_length is not None:
            positive(self, max_length=max_length)
        if scale is not None:
            checks.choice("PositionalEncoding", "scale", scale, _SCALED)
        self.max_length = max_length
        self.scale = scale
        self.supports_masking = True

    def call(self, inputs: Any) -> tf.Tensor:
        steps = inputs.shape[1]
        if None not in (steps, self.max_length) and steps > self.max_length:
            raise ValueError(
                f"PositionalEncoding: expected at most max_length={self.max_length} steps, got "
                f"inputs {checks.describe(inputs)}"
            )
        return self.at(inputs, tf.range(tf.shape(inputs)[1]))

    def at(self, inputs: Any, positions: tf.Tensor) -> tf.Tensor:
        """`inputs` [B, T, D] with the encoding of these positions [T]."""
        width = inputs.shape[-1]
        root = math.sqrt(width)
        waves = encoding(positions, width, "float64" if inputs.dtype == tf.float64 else "float32")
        waves = waves * root if self.scale == "positions" else waves
        inputs = inputs * root if self.scale == "tokens" else inputs
        return inputs + tf.cast(waves, inputs.dtype)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "max_length": self.max_length, "scale": self.scale}


def encoding(positions: tf.Tensor, width: int, dtype: str) -> tf.Tensor:
    """Sines and cosines of positions [T], in turns: [T, width]."""
    place = np.arange(width)
    rates = 10000.0 ** (-2 * (place // 2) / width)
    angles = tf.cast(positions, dtype)[:, None] * tf.constant(rates, dtype)
    return tf.where(place % 2 == 0, tf.sin(angles), tf.cos(angles))


class _Block(ShapedLayer):
    """What encoder and decoder share: sublayers with dropout, residual and normalization.

    After the sum by default, LayerNorm(x + dropout(f(x))), or before the sublayer with
    `norm_first`, x + dropout(f(LayerNorm(x))).
    """

    _SUBLAYERS: tuple[str, ...] = ()

    def __init__(
        self,
        num_heads: int = 8,
        intermediate_dim: int = 512,
        dropout: float = 0.1,
        activation: Any = "relu",
        norm_first: bool = False,
        layer_norm_epsilon: float = 1e-6,
        kernel_initializer: Any = "glorot_uniform",
        seed: int | None = None,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        positive(self, num_heads=num_heads, intermediate_dim=intermediate_dim)
        self.num_heads = num_heads
        self.intermediate_dim = intermediate_dim
        self.dropout = dropout
        self.activation = keras.activations.get(activation)
        self.norm_first = norm_first
        self.layer_norm_epsilon = layer_norm_epsilon
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.seed = seed
        self.supports_masking = True

    def _build_parts(self, input_shape: tuple[int | None, ...]) -> None:
        """Feed-forward layers, and dropout and normalization of each sublayer."""
        *batch, width = input_shape
        if len(batch) != 2 or width is None or width % self.num_heads:
            raise ValueError(
                f"{type(self).__name__}: expected inputs [B, T, D] with a static D that "
                f"num_heads={self.num_heads} divides, got {input_shape}"
            )
        # Squares overflow in float16, and epsilon loses its digits.
        wide = "float64" if self.compute_dtype == "float64" else "float32"
        self.norms = [
            keras.layers.LayerNormalization(
                epsilon=self.layer_norm_epsilon, name=f"{name}_norm", dtype=wide
            )
            for name in self._SUBLAYERS
        ]
        self.dropouts = [
            Dropout(
                self.dropout, seed=self._seed(i), name=f"{name}_dropout", dtype=self.dtype_policy
            )
            for i, name in enumerate(self._SUBLAYERS)
        ]
        self.inner = self._dense(self.intermediate_dim, 3, "inner", self.activation)
        self.outer = self._dense(width, 4, "outer")
        build_child(self.inner, input_shape)
        build_child(self.outer, (*batch, self.intermediate_dim))
        for layer in (*self.norms, *self.dropouts):
            build_child(layer, input_shape)

    def _seed(self, index: int) -> int | None:
        return None if self.seed is None else self.seed + index

    def _initializer(self, index: int) -> Any:
        """The kernel initializer for a part, with this layer's seed if there is one."""
        initializer = self.kernel_initializer
        config: dict[str, Any] = getattr(initializer, "get_config", dict)()
        if self.seed is not None and "seed" in config:
            initializer = type(initializer).from_config({**config, "seed": self.seed})
        return varied(initializer, 100 * index)

    def _attention(self, name: str, index: int, query: Any, value: Any) -> MultiHeadAttention:
        layer = MultiHeadAttention(
            self.num_heads,
            query[-1] // self.num_heads,
            kernel_initializer=self._initializer(index),
            backend=self.backend,
            name=name,
            dtype=self.dtype_policy,
        )
        with tf.name_scope(name):
            layer.build(query, value)
        return layer

    def _dense(self, units: int, index: int, name: str, activation: Any = None) -> Any:
        return Dense(
            units,
            activation,
            kernel_initializer=self._initializer(index),
            backend=self.backend,
            name=name,
            dtype=self.dtype_policy,
        )

    def _normalized(self, index: int, x: Any) -> tf.Tensor:
        return tf.cast(self.norms[index](x), self.compute_dtype)

    def _before(self, index: int, x: Any) -> tf.Tensor:
        """What a sublayer is given."""
        return self._normalized(index, x) if self.norm_first else x

    def _after(self, index: int, x: Any, result: Any, training: Any = None) -> tf.Tensor:
        """What follows a sublayer that gave `result` for `x`."""
        x = x + self.dropouts[index](result, training=training)
        return x if self.norm_first else self._normalized(index, x)

    def _feed_forward(self, x: Any, training: Any = None) -> tf.Tensor:
        result = self.outer(self.inner(self._before(-1, x)))
        return self._after(-1, x, result, training)

    def compute_output_shape(self, input_shape: Any, *_: Any) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "intermediate_dim": self.intermediate_dim,
            "dropout": self.dropout,
            "activation": keras.activations.serialize(self.activation),
            "norm_first": self.norm_first,
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "seed": self.seed,
        }


@compat.serializable
class TransformerEncoder(_Block):
    """Self-attention and two fully connected layers: [B, T, D] -> [B, T, D].

        x = LayerNorm(x + dropout(attention(x, x, x)))
        x = LayerNorm(x + dropout(W2 activation(W1 x + b1) + b2))

    Args:
      num_heads: of the attention, which must divide D; heads have D / num_heads columns.
      intermediate_dim: width of the first fully connected layer.
      dropout: rate after attention and after the fully connected layers. Weights of attention are
        not dropped, so that the fused op runs in training as well.
      activation: any Keras activation.
      norm_first: normalize what goes into each sublayer instead of the sum after it; a stack of
        these needs one more normalization at its end.
      layer_norm_epsilon: added to the variance.
      kernel_initializer: of all kernels; with a seed each draws its own numbers.
      seed: of kernels and dropout.
      backend: which backend runs; None leaves the choice to recops.

    Defaults: num_heads=8, intermediate_dim=512, dropout=0.1, activation="relu", norm_first=False,
    layer_norm_epsilon=1e-06, kernel_initializer="glorot_uniform".

    Call: inputs [B, T, D], float; mask [B, T] bool, True = keep, or the one that Keras carries with
    the inputs; training. Returns [B, T, D] in the compute dtype. What is masked, NaN included,
    reaches nothing that is kept.

    Numerics: statistics of the normalization are float32 for 16-bit inputs.

    Source: Vaswani et al., Attention Is All You Need, NeurIPS 2017, section 3.1.

    Example:
      >>> import numpy as np
      >>> encoder = TransformerEncoder(num_heads=2, intermediate_dim=16, seed=1)
      >>> x = np.ones((3, 5, 8), "float32")
      >>> encoder(x, mask=np.arange(5) < np.array([[1], [5], [3]])).shape
      TensorShape([3, 5, 8])
    """

    _SUBLAYERS = ("attention", "feed_forward")

    def build(self, input_shape: Any) -> None:
        shape = tuple(input_shape)
        self._build_parts(shape)
        self.attention = self._attention("attention", 1, shape, shape)
        self.shapes = {"input_shape": shape}
        self.built = True

    def call(self, inputs: Any, mask: Any = None, training: Any = None) -> tf.Tensor:
        mask = mask_of(inputs, mask)
        x = kept_inputs(inputs, mask)
        y = self._before(0, x)
        x = self._after(0, x, self.attention(y, y, value_mask=mask), training)
        return self._feed_forward(x, training)


@compat.serializable
class TransformerDecoder(_Block):
    """Causal self-attention, attention to encoded steps, and two fully connected layers.

        x = LayerNorm(x + dropout(attention(x, x, x)))            over s <= t
        x = LayerNorm(x + dropout(attention(x, encoded, encoded)))
        x = LayerNorm(x + dropout(W2 activation(W1 x + b1) + b2))

    Args:
      num_heads, intermediate_dim, dropout, activation, norm_first, layer_norm_epsilon,
        kernel_initializer, seed, backend: as in `TransformerEncoder`.

    Defaults: num_heads=8, intermediate_dim=512, dropout=0.1, activation="relu", norm_first=False,
    layer_norm_epsilon=1e-06, kernel_initializer="glorot_uniform".

    Call: inputs [B, T, D]; encoded [B, S, n]; mask [B, T] and encoded_mask [B, S], bool, True =
    keep, or those that Keras carries with the two; training. Returns [B, T, D] in the compute
    dtype; a row with no encoded step that is kept attends to nothing. `start` and `step` decode
    step by step with the same weights, keeping keys and values.

    Numerics: as `TransformerEncoder`.

    Source: Vaswani et al., Attention Is All You Need, NeurIPS 2017, section 3.1.

    Example:
      >>> import numpy as np
      >>> decoder = TransformerDecoder(num_heads=2, intermediate_dim=16)
      >>> decoder(np.ones((3, 4, 8), "float32"), np.ones((3, 5, 6), "float32")).shape
      TensorShape([3, 4, 8])
    """

    _SUBLAYERS = ("attention", "cross_attention", "feed_forward")

    def __call__(self, inputs: Any, encoded: Any, *args: Any, **kwargs: Any) -> Any:
        compat.build_with_all_shapes(self, inputs=inputs, encoded=encoded)
        return super().__call__(inputs, encoded, *args, **kwargs)

    def build(self, inputs_shape: Any, encoded_shape: Any = None) -> None:
        shape = tuple(inputs_shape)
        encoded = shape if encoded_shape is None else tuple(encoded_shape)
        self._build_parts(shape)
        self.attention = self._attention("attention", 1, shape, shape)
        self.cross_attention = self._attention("cross_attention", 2, shape, encoded)
        self.shapes = {"inputs_shape": shape, "encoded_shape": encoded}
        self.built = True

    def call(
        self,
        inputs: Any,
        encoded: Any,
        mask: Any = None,
        encoded_mask: Any = None,
        training: Any = None,
    ) -> tf.Tensor:
        mask, encoded_mask = mask_of(inputs, mask), mask_of(encoded, encoded_mask)
        x = kept_inputs(inputs, mask)
        y = self._before(0, x)
        found = self.attention(y, y, value_mask=mask, use_causal_mask=True)
        x = self._after(0, x, found, training)
        found = self.cross_attention(self._before(1, x), encoded, value_mask=encoded_mask)
        x = self._after(1, x, found, training)
        return self._feed_forward(x, training)

    def compute_output_shape(
        self, inputs_shape: Any, encoded_shape: Any = None
    ) -> tuple[int | None, ...]:
        return tuple(inputs_shape)

    def start(self, encoded: Any, max_length: int) -> tuple[Cache, Cache]:
        """Caches before the first step.

        Empty keys and values [B, max_length, N, E] of the self-attention, and those of the encoded
        steps [B, S, N, E], which are projected once.
        """
        # A new tensor, without a mask of Keras for the projections to complain about.
        encoded = tf.identity(tf.cast(encoded, self.compute_dtype))
        cross = self.cross_attention
        known = cross.key_dense(encoded), cross.value_dense(encoded)
        heads = (self.num_heads, cross.key_dim)
        empty = tf.zeros([tf.shape(encoded)[0], max_length, *heads], self.compute_dtype)
        return (empty, empty), known

    def step(
        self, x: Any, position: tf.Tensor, cache: Cache, encoded: Cache, encoded_mask: Any = None
    ) -> tuple[tf.Tensor, Cache]:
        """One step [B, 1, D] at a position, after those in the cache: output and the new cache."""
        y = self._before(0, x)
        places = tf.range(cache[0].shape[1])
        here = (places == position)[None, :, None, None]
        made = self.attention.key_dense(y), self.attention.value_dense(y)  # [B, 1, N, E] each
        cache = tf.where(here, made[0], cache[0]), tf.where(here, made[1], cache[1])
        seen = tf.broadcast_to(places <= position, tf.shape(cache[0])[:2])
        x = self._after(0, x, self._attended(self.attention, y, cache, seen))
        y = self._before(1, x)
        x = self._after(1, x, self._attended(self.cross_attention, y, encoded, encoded_mask))
        return self._feed_forward(x), cache

    def _attended(self, attention: Any, query: Any, cache: Cache, mask: Any) -> tf.Tensor:
        return attention.output_dense(attention.attend(attention.query_dense(query), *cache, mask))
