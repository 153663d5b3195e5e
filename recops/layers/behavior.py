"""BST's layers: a history with its target through Transformer blocks, and how recent a step is."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops import ops
from recops._core import checks, compat
from recops._core.compat import keras
from recops._core.numerics import accumulate
from recops.layers.base import OpLayer, build_child, kept, positive, static_shape
from recops.layers.transformer import TransformerEncoder

POOLINGS = ("flatten", "mean", "target")


@compat.serializable
class RecencyEncoding(OpLayer):
    """A learned vector for how recent each step is, added: [B, T, D] -> [B, T, D].

        out[b, t] = x[b, t] + w[number of kept steps after t]

    On whichever side the padding is, the latest kept step has w[0], the one before it w[1].

    Args:
      embeddings_initializer: of w, as in `keras.layers.Embedding`.
      backend: which backend runs; None leaves the choice to recops.

    Defaults: embeddings_initializer="uniform".

    Call: x [B, T, D], float; mask [B, T] bool, True = keep, None keeps all. Returns [B, T, D] in
    the compute dtype; what is masked is 0.

    Source: the positions of Chen et al., Behavior Sequence Transformer, 2019, counted from the
    latest step and not by time.

    Example:
      >>> import numpy as np
      >>> layer = RecencyEncoding()
      >>> layer(np.zeros((1, 3, 2), "float32")).shape, layer.count_params()
      (TensorShape([1, 3, 2]), 6)
    """

    def __init__(
        self,
        embeddings_initializer: Any = "uniform",
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        self.embeddings = compat.add_table(
            self,
            name="embeddings",
            shape=static_shape(self, input_shape, "B T D"),
            initializer=self.embeddings_initializer,
        )
        self.built = True

    def call(self, x: Any, mask: Any = None) -> tf.Tensor:
        name = type(self).__name__
        x = checks.floats(name, "x", x, "B T D")
        if mask is None:
            mask = tf.ones(tf.shape(x)[:2], tf.bool)
        mask = checks.mask(name, "mask", mask, checks.sizes(x, 0, 1))
        recency = tf.cumsum(tf.cast(mask, tf.int32), axis=1, exclusive=True, reverse=True)
        added = ops.embedding_lookup(
            compat.variable(self.embeddings), recency, backend=self.backend or "auto"
        )
        return tf.where(mask[..., None], x + tf.cast(added, x.dtype), tf.zeros([], x.dtype))

    def compute_output_shape(self, x_shape: Any, *_: Any, **__: Any) -> tuple[int | None, ...]:
        return tuple(x_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
        }


@compat.serializable
class BehaviorTransformer(OpLayer):
    """A history with the target at its end through Transformer blocks: [B, T, D] -> [B, (T + 1) D].

        x = recency([behaviors, query])         x <- encoder(x), num_blocks times

    Args:
      num_blocks: `TransformerEncoder`s one after the other.
      num_heads: of each, which divides D.
      intermediate_dim: of each; None is 4 D.
      activation: of each one's feed-forward layer; the paper's is a leaky ReLU.
      dropout: of each.
      pooling: "flatten", all steps side by side (the paper), [B, (T + 1) D]; "mean" over the kept
        steps, [B, D]; "target", the last step alone, [B, D].
      seed: of weights and dropout.
      backend: which backend runs; None leaves the choice to recops.

    Defaults: num_blocks=1, num_heads=8, activation="leaky_relu", dropout=0.0, pooling="flatten".

    Call: query [B, D] and behaviors [B, T, D], float; mask [B, T] bool, True = keep, None is the
    one that Keras carries with them, or keeps all; training. The target is always kept. Returns
    [B, (T + 1) D] or [B, D], as `pooling` says, in the compute dtype; "flatten" has 0 where a step
    is masked.

    Numerics: as in `TransformerEncoder`. What is masked, NaN included, changes neither output nor
    gradient.

    Source: Chen et al., Behavior Sequence Transformer, DLP-KDD 2019, section 2.2. There the
    position of a step is the time from it to the recommendation; here it is the number of steps.

    Example:
      >>> import numpy as np
      >>> history = np.ones((2, 5, 4), "float32")
      >>> BehaviorTransformer(num_heads=2)(history[:, 0], history).shape
      TensorShape([2, 24])
    """

    def __init__(
        self,
        num_blocks: int = 1,
        num_heads: int = 8,
        intermediate_dim: int | None = None,
        activation: Any = "leaky_relu",
        dropout: float = 0.0,
        pooling: str = "flatten",
        seed: int | None = None,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        self.supports_masking = True
        positive(self, num_blocks=num_blocks, num_heads=num_heads)
        self.num_blocks = num_blocks
        self.num_heads = num_heads
        self.intermediate_dim = intermediate_dim
        self.activation = keras.activations.get(activation)
        self.dropout = dropout
        self.pooling = checks.choice(type(self).__name__, "pooling", pooling, POOLINGS)
        self.seed = seed
        self.recency = RecencyEncoding(
            keras.initializers.RandomUniform(seed=seed),
            backend=backend,
            name="recency",
            dtype=self.dtype_policy,
        )

    def __call__(self, query: Any, behaviors: Any, *args: Any, **kwargs: Any) -> Any:
        compat.build_with_all_shapes(self, query=query, behaviors=behaviors)
        return super().__call__(query, behaviors, *args, **kwargs)

    def build(self, query_shape: Any, behaviors_shape: Any) -> None:
        batch, steps, dim = tuple(behaviors_shape)
        if dim % self.num_heads:
            raise ValueError(
                f"{type(self).__name__}: num_heads must divide the width D = {dim} of the "
                f"behaviors, got {self.num_heads}"
            )
        self.blocks = [
            TransformerEncoder(
                num_heads=self.num_heads,
                intermediate_dim=self.intermediate_dim or 4 * dim,
                activation=self.activation,
                dropout=self.dropout,
                seed=None if self.seed is None else self.seed + 64 * (i + 1),
                backend=self.backend,
                name=f"block_{i}",
                dtype=self.dtype_policy,
            )
            for i in range(self.num_blocks)
        ]
        for layer in (self.recency, *self.blocks):
            build_child(layer, (batch, steps + 1, dim))
        self.built = True

    def call(self, query: Any, behaviors: Any, mask: Any = None, training: Any = None) -> tf.Tensor:
        name = type(self).__name__
        mask = kept(mask, behaviors)
        # Keras 2 casts the first argument alone.
        query, behaviors = (tf.cast(x, self.compute_dtype) for x in (query, behaviors))
        query = checks.floats(name, "query", query, "B D")
        width = query.shape[1]
        behaviors = checks.floats(name, "behaviors", behaviors, f"B T {width}")
        if mask is None:
            mask = tf.ones(tf.shape(behaviors)[:2], tf.bool)
        mask = checks.mask(name, "mask", mask, checks.sizes(behaviors, 0, 1))
        mask = tf.concat([mask, tf.ones_like(mask[:, :1])], axis=1)  # [B, T + 1]
        x = tf.concat([behaviors, query[:, None]], axis=1)  # [B, T + 1, D]
        x = self.recency(x, mask=mask)
        for block in self.blocks:
            x = block(x, mask=mask, training=training)
        if self.pooling == "target":
            return x[:, -1]
        x = tf.where(mask[..., None], x, tf.zeros([], x.dtype))
        if self.pooling == "flatten":
            return tf.reshape(x, [-1, x.shape[1] * width])
        return _mean(x, mask)

    def compute_mask(self, query: Any, mask: Any = None) -> None:
        return None

    def compute_output_shape(
        self, query_shape: Any, behaviors_shape: Any, *_: Any, **__: Any
    ) -> tuple[int | None, ...]:
        batch, dim = tuple(query_shape)
        return (batch, (behaviors_shape[1] + 1) * dim if self.pooling == "flatten" else dim)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_blocks": self.num_blocks,
            "num_heads": self.num_heads,
            "intermediate_dim": self.intermediate_dim,
            "activation": keras.activations.serialize(self.activation),
            "dropout": self.dropout,
            "pooling": self.pooling,
            "seed": self.seed,
        }


@accumulate
def _mean(x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Mean over the kept steps of x, which is 0 elsewhere; the target is one of them."""
    return tf.reduce_sum(x, axis=1) / tf.reduce_sum(tf.cast(mask, x.dtype), axis=1, keepdims=True)
