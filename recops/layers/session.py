"""DSIN's layers: where a behaviour stands among sessions, and the interest of each session."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops import ops
from recops._core import checks, compat
from recops._core.compat import keras
from recops._core.numerics import accumulate
from recops.layers.base import OpLayer, build_child, positive, side_by_side, static_shape, varied
from recops.layers.dense import Dense
from recops.layers.dropout import Dropout

POSITIONS = ("bias", None)


@compat.serializable
class BiasEncoding(OpLayer):
    """Position among sessions, steps and channels, added: [B, K, T, D] -> [B, K, T, D].

        out[b, k, t, c] = x[b, k, t, c] + w_K[k] + w_T[t] + w_C[c]

    Args:
      initializer: of the three vectors; by default truncated normal with stddev 1e-4.
      seed: of the default initializer.
      backend: taken as in every layer; one sum has one implementation.

    Call: inputs [B, K, T, D], float. Returns the same shape in the compute dtype.

    Source: Feng et al., Deep Session Interest Network, IJCAI 2019, eq. 2.

    Example:
      >>> import numpy as np
      >>> layer = BiasEncoding()
      >>> layer(np.ones((2, 3, 5, 4), "float32")).shape, layer.count_params()
      (TensorShape([2, 3, 5, 4]), 12)
    """

    def __init__(
        self,
        initializer: Any = None,
        seed: int | None = None,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        if initializer is None:
            initializer = keras.initializers.TruncatedNormal(stddev=1e-4, seed=seed)
        self.initializer = keras.initializers.get(initializer)
        self.seed = seed
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        sizes = static_shape(self, input_shape, "B K T D")
        self.session_bias, self.step_bias, self.channel_bias = (
            self.add_weight(name=name, shape=(size,), initializer=varied(self.initializer, i))
            for i, (name, size) in enumerate(
                zip(("session_bias", "step_bias", "channel_bias"), sizes)
            )
        )
        self.built = True

    def call(self, inputs: Any) -> tf.Tensor:
        x = checks.floats("BiasEncoding", "inputs", inputs, "B K T D")
        sessions, steps, channels = (
            compat.as_tensor(bias)
            for bias in (self.session_bias, self.step_bias, self.channel_bias)
        )
        return x + (sessions[:, None, None] + steps[:, None] + channels)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "initializer": keras.initializers.serialize(self.initializer),
            "seed": self.seed,
        }


@compat.serializable
class SessionExtractor(OpLayer):
    """One interest a session by self-attention within it: [B, K, T, D] -> [B, K, D].

        q = bias_encoding(x)            h = norm(q + concat_n attention_n(q) W_O)
        y = norm(h + relu(h W_1 + b_1) W_2 + b_2)        out = mean of y over the kept steps

    All sessions share the weights and run as one batch of B K sequences. See
    `recops.ops.multi_head_attention`.

    Args:
      num_heads: N, which divides D.
      intermediate_dim: width of the feed-forward layer; None is 4 D.
      dropout: rate on the result of either half before it is added.
      use_layer_norm: normalize after each addition.
      use_positional: "bias" is `BiasEncoding`; None leaves positions out.
      causal: a step attends to itself and what is before it only.
      mask_diagonal: a step does not attend to itself (DeepCTR's `blinding`). A session of one step
        then has no key, and its attention is 0.
      seed: of weights and dropout.
      backend: which backend runs; None leaves the choice to recops.

    Defaults: num_heads=1, dropout=0.0, use_layer_norm=True, use_positional="bias", causal=False,
    mask_diagonal=False.

    Call: sessions [B, K, T, D], float; mask [B, K, T] bool, True = keep, None keeps all; training.
    Returns [B, K, D] in the compute dtype; 0 for a session that keeps no step.

    Raises: ValueError when num_heads does not divide D or an option is unknown.

    Numerics: softmax, normalization and mean are float32 for 16-bit inputs. What is masked, NaN
    included, changes neither output nor gradient.

    Source: Feng et al., Deep Session Interest Network, IJCAI 2019, section 3.3. The authors' code
    averages over padding too.

    Example:
      >>> import numpy as np
      >>> SessionExtractor(num_heads=2)(np.ones((2, 3, 5, 4), "float32")).shape
      TensorShape([2, 3, 4])
    """

    def __init__(
        self,
        num_heads: int = 1,
        intermediate_dim: int | None = None,
        dropout: float = 0.0,
        use_layer_norm: bool = True,
        use_positional: str | None = "bias",
        causal: bool = False,
        mask_diagonal: bool = False,
        seed: int | None = None,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        positive(self, num_heads=num_heads)
        if intermediate_dim is not None:
            positive(self, intermediate_dim=intermediate_dim)
        if use_positional not in POSITIONS:
            raise ValueError(
                f'{type(self).__name__}: use_positional must be "bias" or None, got '
                f"{use_positional!r}"
            )
        self.num_heads = num_heads
        self.intermediate_dim = intermediate_dim
        self.dropout = dropout
        self.use_layer_norm = use_layer_norm
        self.use_positional = use_positional
        self.causal = causal
        self.mask_diagonal = mask_diagonal
        self.seed = seed
        dtype = self.dtype_policy
        if use_positional:
            self.positions = BiasEncoding(seed=self._seed(0), name="positions", dtype=dtype)
        self.dropouts = [
            Dropout(dropout, seed=self._seed(3 + i), name=f"dropout_{i}", dtype=dtype)
            for i in range(2)
        ]
        self.normalizations = [
            keras.layers.LayerNormalization(
                epsilon=1e-6,
                name=f"normalization_{i}",
                dtype="float64" if self.compute_dtype == "float64" else "float32",
            )
            for i in range(2 if use_layer_norm else 0)
        ]

    def _seed(self, place: int) -> int | None:
        return None if self.seed is None else self.seed + place

    def _glorot(self, place: int) -> Any:
        return keras.initializers.GlorotUniform(seed=self._seed(place))

    def build(self, input_shape: Any) -> None:
        _, steps, dim = static_shape(self, input_shape, "B K T D")
        if dim % self.num_heads:
            raise ValueError(
                f"{type(self).__name__}: num_heads must divide the width D = {dim} of the "
                f"sessions, got {self.num_heads}"
            )
        self.kernel = self.add_weight(
            name="kernel", shape=(dim, 3 * dim), initializer=side_by_side(self._glorot(5), 3)
        )
        self.output_kernel = self.add_weight(
            name="output_kernel", shape=(dim, dim), initializer=self._glorot(8)
        )
        wide = self.intermediate_dim or 4 * dim
        self.intermediate = Dense(
            wide,
            "relu",
            kernel_initializer=self._glorot(9),
            backend=self.backend,
            name="intermediate",
            dtype=self.dtype_policy,
        )
        self.narrowed = Dense(
            dim,
            kernel_initializer=self._glorot(10),
            backend=self.backend,
            name="narrowed",
            dtype=self.dtype_policy,
        )
        if self.use_positional:
            build_child(self.positions, input_shape)
        build_child(self.intermediate, (None, steps, dim))
        build_child(self.narrowed, (None, steps, wide))
        for layer in (*self.normalizations, *self.dropouts):
            build_child(layer, (None, steps, dim))
        self.built = True

    def call(self, sessions: Any, mask: Any = None, training: Any = None) -> tf.Tensor:
        name = type(self).__name__
        x = checks.floats(name, "sessions", sessions, "B K T D")
        _, count, steps, dim = x.shape
        if mask is None:
            mask = tf.ones(tf.shape(x)[:3], tf.bool)
        mask = checks.mask(name, "mask", mask, checks.sizes(x, 0, 1, 2))
        x = tf.where(mask[..., None], x, tf.zeros([], x.dtype))
        if self.use_positional:
            x = self.positions(x)
        x = tf.reshape(x, [-1, steps, dim])  # [B K, T, D]
        kept = tf.reshape(mask, [-1, steps])
        x = self._added(0, x, self._attention(x, kept), training)
        x = self._added(1, x, self.narrowed(self.intermediate(x)), training)
        return tf.reshape(_mean(x, kept), [-1, count, dim])  # [B, K, D]

    def _attention(self, x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        _, steps, dim = x.shape
        joined = tf.tensordot(x, compat.as_tensor(self.kernel), 1)  # [B K, T, 3 D]
        joined = tf.reshape(joined, [-1, steps, 3, self.num_heads, dim // self.num_heads])
        if self.mask_diagonal:
            mask = mask[:, None] & ~tf.eye(steps, dtype=tf.bool)  # [B K, T, T]
        query, key, value = tf.unstack(joined, axis=2)  # [B K, T, N, E]
        y = ops.multi_head_attention(
            query, key, value, mask, self.causal, backend=self.backend or "auto"
        )
        return tf.tensordot(
            tf.reshape(y, [-1, steps, dim]), compat.as_tensor(self.output_kernel), 1
        )

    def _added(self, half: int, x: tf.Tensor, y: tf.Tensor, training: Any) -> tf.Tensor:
        x += self.dropouts[half](y, training=training)
        if not self.use_layer_norm:
            return x
        return tf.cast(self.normalizations[half](x), self.compute_dtype)

    def compute_mask(self, sessions: Any, mask: Any = None) -> None:
        return None

    def compute_output_shape(self, sessions_shape: Any, *_: Any, **__: Any) -> Any:
        batch, count, _, dim = tuple(sessions_shape)
        return (batch, count, dim)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "intermediate_dim": self.intermediate_dim,
            "dropout": self.dropout,
            "use_layer_norm": self.use_layer_norm,
            "use_positional": self.use_positional,
            "causal": self.causal,
            "mask_diagonal": self.mask_diagonal,
            "seed": self.seed,
        }


@accumulate
def _mean(x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Mean over the kept steps, 0 where there are none."""
    total = tf.reduce_sum(tf.where(mask[..., None], x, tf.zeros([], x.dtype)), axis=1)
    count = tf.reduce_sum(tf.cast(mask, x.dtype), axis=1, keepdims=True)
    return tf.math.divide_no_nan(total, count)
