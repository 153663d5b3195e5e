"""Swaps of the layers of TensorFlow Addons 0.23, and those layers in the form that it has."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from recops import ops
from recops._core import checks, compat
from recops._core.compat import keras
from recops.accelerate.carry import moved, options, penalty, replacement
from recops.accelerate.registry import Kept, Replacement, Swap
from recops.layers.base import OpLayer, positive

# What Addons adds to a score that is masked.
_MASKED = -10e9


@compat.serializable
class AddonsBag(OpLayer):
    """Pooled embedding of lists of ids, as Addons calls it: [B, T] -> [B, D].

    Args:
      rows: of the table; ids run 0..rows - 1, and all count.
      embedding_dim: D.
      combiner: "sum" or "mean".
      embeddings_regularizer: as in `keras.layers.Embedding`.
      backend: which backend runs; None leaves the choice to recops.

    Defaults: combiner="sum".

    Call: ids [B, T], int32 or int64; weights [B, T] float, for "sum" alone.

    Example:
      >>> import numpy as np
      >>> AddonsBag(9, 4)(np.array([[3, 4, 0]]), np.ones((1, 3), "float32")).shape
      TensorShape([1, 4])
    """

    def __init__(
        self,
        rows: int,
        embedding_dim: int,
        combiner: str = "sum",
        embeddings_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        positive(self, rows=rows, embedding_dim=embedding_dim)
        self.rows = rows
        self.embedding_dim = embedding_dim
        self.combiner = checks.choice("AddonsBag", "combiner", combiner, ("sum", "mean"))
        self.embeddings_regularizer = keras.regularizers.get(embeddings_regularizer)

    def build(self, input_shape: Any = None) -> None:
        self.embeddings = compat.add_table(
            self,
            name="embeddings",
            shape=(self.rows, self.embedding_dim),
            initializer="uniform",
            regularizer=self.embeddings_regularizer,
        )
        self.built = True

    def call(self, ids: Any, weights: Any = None) -> tf.Tensor:
        if weights is not None and self.combiner != "sum":
            raise ValueError(f"{self.name}: weights need combiner 'sum', got {self.combiner!r}")
        table = compat.variable(self.embeddings)
        if weights is not None:
            weights = tf.cast(weights, table.dtype)
        pooled = ops.embedding_bag(
            table, ids, None, weights, self.combiner, backend=self.backend or "auto"
        )
        return tf.cast(pooled, self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (input_shape[0], self.embedding_dim)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "rows": self.rows,
            "embedding_dim": self.embedding_dim,
            "combiner": self.combiner,
            "embeddings_regularizer": keras.regularizers.serialize(self.embeddings_regularizer),
        }


@compat.serializable
class AddonsAttention(OpLayer):
    """Multi-head attention as Addons calls it: [[B, T, n], [B, S, m], ...] -> [B, T, units].

    A query that keeps no key attends to all alike, as there, and so does a mask of other numbers
    than 0 and 1 weaken: then the weights of attention are formed by TensorFlow's products.

    Args:
      num_heads, head_size: N and E.
      units: width of the result.
      use_bias: whether the result has a bias; the heads have none.
      kernel_regularizer, bias_regularizer: as in `keras.layers.Dense`.
      backend: which backend runs; None leaves the choice to recops.

    Defaults: use_bias=True.

    Call: inputs [query, key] or [query, key, value]; mask [T, S], [B, T, S] or [B, N, T, S], 1 at
    what is attended to.

    Example:
      >>> import numpy as np
      >>> layer = AddonsAttention(num_heads=2, head_size=4, units=6)
      >>> layer([np.ones((3, 5, 6), "float32"), np.ones((3, 7, 6), "float32")]).shape
      TensorShape([3, 5, 6])
    """

    def __init__(
        self,
        num_heads: int,
        head_size: int,
        units: int,
        use_bias: bool = True,
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        positive(self, num_heads=num_heads, head_size=head_size, units=units)
        self.num_heads = num_heads
        self.head_size = head_size
        self.units = units
        self.use_bias = use_bias
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)

    def build(self, input_shape: Any) -> None:
        query, key = (tuple(shape)[-1] for shape in input_shape[:2])
        value = tuple(input_shape[2])[-1] if len(input_shape) > 2 else key
        heads = (self.num_heads, self.head_size)
        self.query_kernel = self._kernel("query_kernel", (query, *heads))
        self.key_kernel = self._kernel("key_kernel", (key, *heads))
        self.value_kernel = self._kernel("value_kernel", (value, *heads))
        self.projection_kernel = self._kernel("projection_kernel", (*heads, self.units))
        if self.use_bias:
            self.projection_bias = self.add_weight(
                name="projection_bias",
                shape=(self.units,),
                initializer="zeros",
                regularizer=self.bias_regularizer,
            )
        self.built = True

    def _kernel(self, name: str, shape: tuple[int, ...]) -> Any:
        return self.add_weight(
            name=name,
            shape=shape,
            initializer="glorot_uniform",
            regularizer=self.kernel_regularizer,
        )

    def call(self, inputs: Any, mask: Any = None, training: Any = None) -> tf.Tensor:
        query, key = inputs[0], inputs[1]
        value = inputs[2] if len(inputs) > 2 else key
        query = tf.einsum("bti,ine->btne", query, compat.as_tensor(self.query_kernel))
        key = tf.einsum("bsi,ine->bsne", key, compat.as_tensor(self.key_kernel))
        value = tf.einsum("bsi,ine->bsne", value, compat.as_tensor(self.value_kernel))
        # Keras 3 hands over a mask for each input where none was given; Addons takes a single one.
        mask = None if isinstance(mask, (list, tuple)) else mask
        heads = self._attended(query, key, value, mask)  # [B, T, N, E]
        out = tf.einsum("btne,neo->bto", heads, compat.as_tensor(self.projection_kernel))
        return out + compat.as_tensor(self.projection_bias) if self.use_bias else out

    def _attended(self, query: Any, key: Any, value: Any, mask: Any) -> tf.Tensor:
        backend = self.backend or "auto"
        if mask is None:
            return ops.multi_head_attention(query, key, value, backend=backend)
        mask = tf.cast(mask, tf.float32)
        if mask.shape.rank < 4:
            mask = tf.expand_dims(mask, -3)
        if mask.shape.rank < 4:
            mask = mask[None]
        kept = mask == 1
        plain = tf.reduce_all(kept | (mask == 0)) & tf.reduce_all(tf.reduce_any(kept, axis=-1))
        sizes = tf.concat([tf.shape(query)[:1], tf.shape(kept)[1:]], axis=0)
        return tf.cond(
            plain,
            lambda: ops.multi_head_attention(
                query, key, value, tf.broadcast_to(kept, sizes), backend=backend
            ),
            lambda: _formed(query, key, value, mask),
        )

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        return None

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (*tuple(input_shape[0])[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "head_size": self.head_size,
            "units": self.units,
            "use_bias": self.use_bias,
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
        }


def _formed(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Attention whose weights are formed, with what Addons adds to the scores for a mask."""
    query /= tf.sqrt(tf.cast(query.shape[-1], query.dtype))
    scores = tf.einsum("btne,bsne->bnts", query, key)
    scores += tf.cast(_MASKED * (1.0 - mask), scores.dtype)
    return tf.einsum("bnts,bsne->btne", tf.nn.softmax(scores), value)


def _bag(layer: Any, shapes: Any) -> Replacement:
    new = AddonsBag(
        layer.input_dim,
        layer.output_dim,
        layer.combiner,
        penalty(layer, [layer.embeddings]),
        **options(layer),
    )
    # With mask_zero Addons makes no mask and pools what has one all the same.
    new.supports_masking = layer.supports_masking
    new.build()
    return replacement(layer, new, [moved(new.embeddings, layer.embeddings)])


def _attention(layer: Any, shapes: Any) -> Replacement:
    if layer.return_attn_coef:
        raise Kept("it returns the weights of attention, which the op does not form")
    if layer._droput_rate:
        raise Kept("it drops weights of attention in training, which the op does not form")
    if any(len(shape) != 3 for shape in shapes):
        raise Kept(f"its inputs are not all [B, T, n]: {[tuple(shape) for shape in shapes]}")
    kernels = [layer.query_kernel, layer.key_kernel, layer.value_kernel]
    biases = [layer.projection_bias] if layer.use_projection_bias else []
    new = AddonsAttention(
        layer.num_heads,
        layer.head_size,
        int(layer.projection_kernel.shape[-1]),
        bool(layer.use_projection_bias),
        penalty(layer, [*kernels, layer.projection_kernel]),
        penalty(layer, biases),
        **options(layer),
    )
    new.build(shapes)

    def arrange(kernel: np.ndarray) -> np.ndarray:
        return kernel.transpose(1, 0, 2)

    ours = [new.query_kernel, new.key_kernel, new.value_kernel]
    carried = [moved(a, b, arrange=arrange) for a, b in zip(ours, kernels)]
    carried.append(moved(new.projection_kernel, layer.projection_kernel))
    carried += [moved(new.projection_bias, bias) for bias in biases]
    return replacement(layer, new, carried)


_LAYERS = "tensorflow_addons.layers."
SWAPS: tuple[Swap, ...] = (
    Swap(f"{_LAYERS}embedding_bag.EmbeddingBag", "recops.ops.embedding_bag", _bag),
    Swap(
        f"{_LAYERS}multihead_attention.MultiHeadAttention",
        "recops.ops.multi_head_attention",
        _attention,
    ),
)
