"""AutoInt's layers: self-attention over fields, and numbers as fields."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops import ops
from recops._core import checks, compat
from recops._core.compat import keras
from recops._core.numerics import accumulate
from recops.layers.base import OpLayer, positive, side_by_side, static_shape, varied


@compat.serializable
class InteractingLayer(OpLayer):
    """Multi-head self-attention over the fields: [B, F, D] -> [B, F, N E].

        out = relu(concat_n softmax(q_n k_n^T) v_n + x W_res)        q, k, v = x W_q, x W_k, x W_v

    The scores are not scaled and no product has a bias. See `recops.ops.multi_head_attention`.

    Args:
      num_heads: N.
      head_dim: E, the width of a head.
      use_res: add x W_res before the ReLU.
      scaling: divide the scores by sqrt(E).
      return_attention_scores: also return the attention weights, which are made a second time.
      kernel_initializer: draws W_q, W_k, W_v and W_res of each layer one by one, each as for a
        Dense layer of D to N E.
      kernel_regularizer: as in `keras.layers.Dense`.
      backend: which backend runs; None leaves the choice to recops.

    Defaults: num_heads=2, head_dim=8, use_res=True, scaling=False, return_attention_scores=False,
    kernel_initializer="glorot_uniform".

    Call: inputs [B, F, D], float. Returns [B, F, N E], or ([B, F, N E], [B, N, F, F]), in the
    compute dtype.

    Numerics: scores and softmax are float32 for 16-bit inputs.

    Source: Song et al., AutoInt, CIKM 2019, section 4.4.

    Example:
      >>> import numpy as np
      >>> layer = InteractingLayer(num_heads=2, head_dim=8)
      >>> layer(np.ones((2, 4, 3), "float32")).shape, layer.count_params()
      (TensorShape([2, 4, 16]), 192)
    """

    def __init__(
        self,
        num_heads: int = 2,
        head_dim: int = 8,
        use_res: bool = True,
        scaling: bool = False,
        return_attention_scores: bool = False,
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        positive(self, num_heads=num_heads, head_dim=head_dim)
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.use_res = use_res
        self.scaling = scaling
        self.return_attention_scores = return_attention_scores
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape: Any) -> None:
        _, dim = static_shape(self, input_shape, "B F D")
        width = self.num_heads * self.head_dim
        self.kernel = self.add_weight(
            name="kernel",
            shape=(dim, 3 * width),
            initializer=side_by_side(self.kernel_initializer, 3),
            regularizer=self.kernel_regularizer,
        )
        if self.use_res:
            self.residual_kernel = self.add_weight(
                name="residual_kernel",
                shape=(dim, width),
                initializer=varied(self.kernel_initializer, 3),
                regularizer=self.kernel_regularizer,
            )
        self.built = True

    def call(self, inputs: Any) -> Any:
        x = checks.floats("InteractingLayer", "inputs", inputs, "B F D")
        fields = x.shape[1]
        # Three products: taking one apart costs more than it saves.
        query, key, value = (
            tf.reshape(tf.tensordot(x, kernel, 1), [-1, fields, self.num_heads, self.head_dim])
            for kernel in tf.split(compat.as_tensor(self.kernel), 3, axis=1)
        )  # [B, F, N, E]
        scale = None if self.scaling else 1.0
        y = ops.multi_head_attention(query, key, value, scale=scale, backend=self.backend or "auto")
        y = tf.reshape(y, [-1, fields, self.num_heads * self.head_dim])  # [B, F, N E]
        if self.use_res:
            y += tf.tensordot(x, compat.as_tensor(self.residual_kernel), 1)
        y = tf.nn.relu(y)
        if not self.return_attention_scores:
            return y
        return y, _scores(query, key, scale=self.head_dim**-0.5 if self.scaling else 1.0)

    def compute_output_shape(self, input_shape: Any) -> Any:
        fields, _ = static_shape(self, input_shape, "B F D")
        out = (input_shape[0], fields, self.num_heads * self.head_dim)
        scores = (input_shape[0], self.num_heads, fields, fields)
        return (out, scores) if self.return_attention_scores else out

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "head_dim": self.head_dim,
            "use_res": self.use_res,
            "scaling": self.scaling,
            "return_attention_scores": self.return_attention_scores,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }


@accumulate
def _scores(query: tf.Tensor, key: tf.Tensor, *, scale: float) -> tf.Tensor:
    return tf.nn.softmax(tf.einsum("btne,bsne->bnts", query, key) * scale)


@compat.serializable
class NumberEmbedding(OpLayer):
    """Numbers as fields, each with a vector of its own: [B, n] -> [B, n, D].

        out[b, m] = x[b, m] v_m

    Args:
      embedding_dim: D.
      embeddings_initializer, embeddings_regularizer: as in `keras.layers.Embedding`.
      backend: taken as in every layer; one product has one implementation.

    Defaults: embeddings_initializer="uniform".

    Call: inputs [B, n], float. Returns [B, n, D] in the compute dtype.

    Source: Song et al., AutoInt, CIKM 2019, section 4.3.

    Example:
      >>> import numpy as np
      >>> layer = NumberEmbedding(2, embeddings_initializer="ones")
      >>> layer(np.array([[3.0, 5.0]], "float32")).numpy().tolist()
      [[[3.0, 3.0], [5.0, 5.0]]]
    """

    def __init__(
        self,
        embedding_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        positive(self, embedding_dim=embedding_dim)
        self.embedding_dim = embedding_dim
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)
        self.embeddings_regularizer = keras.regularizers.get(embeddings_regularizer)

    def build(self, input_shape: Any) -> None:
        (numbers,) = static_shape(self, input_shape, "B n")
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(numbers, self.embedding_dim),
            initializer=self.embeddings_initializer,
            regularizer=self.embeddings_regularizer,
        )
        self.built = True

    def call(self, inputs: Any) -> tf.Tensor:
        x = checks.floats("NumberEmbedding", "inputs", inputs, "B n")
        return x[:, :, None] * compat.as_tensor(self.embeddings)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (input_shape[0], *static_shape(self, input_shape, "B n"), self.embedding_dim)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
            "embeddings_regularizer": keras.regularizers.serialize(self.embeddings_regularizer),
        }
