"""Multi-head attention with the arguments, weights and call of Keras's layer."""

from __future__ import annotations

import functools
import math
import string
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from recops import ops
from recops._core import compat
from recops._core.compat import keras
from recops.layers.attention_axes import AttentionAxes
from recops.layers.base import OpLayer, build_child, kept, positive, varied, without_newer
from recops.layers.dropout import Dropout


class ShapedLayer(OpLayer):
    """A layer of several arguments that is built from the shapes of all of them.

    `build` keeps them as `self.shapes`, {argument's name + "_shape": shape}, for saved models.
    """

    shapes: dict[str, tuple[int | None, ...]] | None = None

    def get_build_config(self) -> dict[str, Any] | None:
        return None if self.shapes is None else dict(self.shapes)

    def build_from_config(self, config: dict[str, Any]) -> None:
        if config:
            self.build(**config)


@compat.serializable
class MultiHeadAttention(ShapedLayer):
    """`keras.layers.MultiHeadAttention` whose softmax keeps no [B, N, T, S] for the backward.

        out = concat_n(softmax(Q_n K_n^T / sqrt(key_dim)) V_n) W + b

    Weights have Keras's order, names and shapes, so `set_weights` takes those of its layer. The op
    `recops.ops.multi_head_attention` runs, except where the weights of attention are wanted
    themselves: with `return_attention_scores`, and in training with `dropout`, they are formed.

    It differs from Keras where a query keeps no key: the attention is 0 there, and the output is
    the last bias, while Keras averages over all keys, padding with them. What is masked, NaN
    included, reaches no output that is kept and no gradient.

    Args:
      num_heads, key_dim, value_dim, dropout, use_bias, output_shape, attention_axes,
        sliding_window, kernel_initializer, bias_initializer, kernel_regularizer,
        bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint, use_gate: as in
        `keras.layers.MultiHeadAttention` of Keras 3, under Keras 2 as well.
      flash_attention: taken for compatibility and without effect.
      seed: of dropout. Kernels draw different numbers also from one seeded initializer.
      backend: which backend runs; None leaves the choice to recops.

    Defaults: dropout=0.0, use_bias=True, kernel_initializer="glorot_uniform",
    bias_initializer="zeros", use_gate=False.

    Call: query [B, T, n]; value [B, S, m]; key [B, S, l], by default `value`; or more axes between,
    of which `attention_axes` are attended over, all by default. query_mask [B, T], value_mask and
    key_mask [B, S], attention_mask [B, T, S] or [B, 1 or N, T, S], bool, True = keep: a key must be
    kept by all of them. Masks that Keras carries with the inputs stand in for those not given.
    use_causal_mask: keep s <= t only; return_attention_scores: return also the weights
    [B, N, T, S]; training. Returns [B, T, n] or [B, T, *output_shape], in the compute dtype.

    Numerics: scores and softmax are float32 for 16-bit inputs.

    Source: Vaswani et al., Attention Is All You Need, NeurIPS 2017, section 3.2.

    Example:
      >>> import numpy as np
      >>> layer = MultiHeadAttention(num_heads=2, key_dim=4)
      >>> x = np.ones((3, 5, 6), "float32")
      >>> layer(x, x, value_mask=np.arange(5) < np.array([[1], [5], [0]])).shape
      TensorShape([3, 5, 6])
      >>> [tuple(weight.shape) for weight in layer.weights][:2]
      [(6, 2, 4), (2, 4)]
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: int | Sequence[int] | None = None,
        attention_axes: int | Sequence[int] | None = None,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        use_gate: bool = False,
        seed: int | None = None,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        stock = keras.layers.MultiHeadAttention
        super().__init__(backend=backend, **without_newer(self, stock, kwargs))
        self.num_heads = num_heads
        self.key_dim = key_dim
        self.value_dim = key_dim if value_dim is None else value_dim
        positive(self, num_heads=num_heads, key_dim=key_dim, value_dim=self.value_dim)
        if sliding_window is not None:
            positive(self, sliding_window=sliding_window)
        self.dropout = dropout
        self.use_bias = use_bias
        self._output_shape = _sizes("output_shape", output_shape)
        self.attention_axes = _sizes("attention_axes", attention_axes)
        self.sliding_window = sliding_window
        self.flash_attention = flash_attention
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        # Keras 2 would apply an attribute called activity_regularizer to the output once more.
        self.projection_regularizer = keras.regularizers.get(activity_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.use_gate = use_gate
        self.seed = seed
        self.supports_masking = True
        wide = "float64" if self.compute_dtype == "float64" else "float32"
        self.dropout_layer = Dropout(dropout, seed=seed, name="dropout", dtype=wide)

    def __call__(self, query: Any, value: Any, key: Any = None, *args: Any, **kwargs: Any) -> Any:
        compat.build_with_all_shapes(self, query=query, value=value, key=key)
        return super().__call__(query, value, key, *args, **kwargs)

    def build(self, query_shape: Any, value_shape: Any = None, key_shape: Any = None) -> None:
        query, value, key = _fitting(query_shape, value_shape, key_shape)
        self.shapes = {"query_shape": query, "value_shape": value, "key_shape": key}
        self.axes = AttentionAxes(len(query), self.attention_axes)
        keys, values = (self.num_heads, self.key_dim), (self.num_heads, self.value_dim)
        self.query_dense = self._projection("query", 0, query, 1, keys)
        self.key_dense = self._projection("key", 1, key, 1, keys)
        if self.use_gate:
            self.gate_dense = self._projection("gate", 2, query, 1, values, activation="sigmoid")
        self.value_dense = self._projection("value", 3, value, 1, values)
        joined = (*query[:-1], *values)
        self.output_dense = self._projection(
            "attention_output", 4, joined, 2, self._output_shape or query[-1:]
        )
        self.built = True

    def _projection(
        self,
        name: str,
        index: int,
        shape: tuple[int | None, ...],
        bound: int,
        units: Sequence[int | None],
        **options: Any,
    ) -> Any:
        """A built EinsumDense that turns the last `bound` axes of `shape` into `units`."""
        free = len(shape) - bound
        letters = iter(string.ascii_lowercase)
        kept, contracted, made = (
            "".join(next(letters) for _ in range(n)) for n in (free, bound, len(units))
        )
        dense = keras.layers.EinsumDense(
            f"{kept}{contracted},{contracted}{made}->{kept}{made}",
            output_shape=(*[None] * (free - 1), *units),
            bias_axes=made if self.use_bias else None,
            kernel_initializer=varied(self.kernel_initializer, index),
            bias_initializer=varied(self.bias_initializer, index),
            kernel_regularizer=self.kernel_regularizer,
            bias_regularizer=self.bias_regularizer,
            activity_regularizer=self.projection_regularizer,
            kernel_constraint=self.kernel_constraint,
            bias_constraint=self.bias_constraint,
            name=name,
            dtype=self.dtype_policy,
            **options,
        )
        build_child(dense, shape)
        return dense

    def call(
        self,
        query: Any,
        value: Any,
        key: Any = None,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: Any = None,
        use_causal_mask: bool = False,
    ) -> Any:
        key = value if key is None else key
        rows = mask_of(query, query_mask)
        columns = _all_of(mask_of(value, value_mask), mask_of(key, key_mask))
        axes, dims = self.axes, self.axes.dims(query, value)
        of_keys = axes.of_keys(attention_mask, dims)
        if of_keys is not None:
            columns, attention_mask = _all_of(columns, of_keys), None
        # The op is fastest with a mask of keys alone, so queries are left out of what it returns.
        whole = return_attention_scores or attention_mask is not None
        whole = whole or self.sliding_window is not None
        mask = axes.mask(
            dims, rows if whole else None, columns, attention_mask, self.sliding_window
        )
        some: tuple[tf.Tensor | None, tf.Tensor | None] = (None, None)
        if attention_mask is not None:
            some = axes.some(mask)
        elif of_keys is not None:
            some = tf.reduce_any(columns, axis=1, keepdims=True), None
        used, columns = (_all_of(*pair) for pair in zip((rows, columns), some))
        query, value, key = _kept_once((query, used), (value, columns), (key, columns))
        heads = self._projected(self.query_dense, query)  # [B, T, N, E]
        keys = self._projected(self.key_dense, key)  # [B, S, N, E], as the values
        values = self._projected(self.value_dense, value)
        q, k, v = (axes.fold(x) for x in (heads, keys, values))
        dropping = self.dropout > 0 and (tf.is_tensor(training) or bool(training))
        if return_attention_scores or dropping:
            out, scores = self._formed(q, k, v, mask, use_causal_mask, training)
        else:
            out, scores = self.attend(q, k, v, mask, use_causal_mask), None
        out = axes.unfold(out, heads)
        if not (whole or rows is None):
            out = tf.where(rows[..., None, None], out, tf.zeros([], out.dtype))
        if self.use_gate:
            out = out * self._projected(self.gate_dense, query)
        out = self._projected(self.output_dense, out)
        if not return_attention_scores:
            return out
        return out, axes.unfold_scores(tf.cast(scores, self.compute_dtype), dims)

    def _projected(self, dense: Any, inputs: Any) -> tf.Tensor:
        """A projection, which may compute in another dtype where `dtype` is a map of policies."""
        return tf.cast(dense(inputs), self.compute_dtype)

    def attend(
        self, query: Any, key: Any, value: Any, mask: Any = None, causal: Any = False
    ) -> Any:
        """The op on heads as `query_dense`, `key_dense` and `value_dense` give them."""
        width = max(self.key_dim, self.value_dim)
        query, key, value = (_padded(x, width) for x in (query, key, value))
        scale = 1 / math.sqrt(self.key_dim)
        out = ops.multi_head_attention(
            query, key, value, mask, bool(causal), scale, backend=self.backend or "auto"
        )
        return out[..., : self.value_dim]

    def _formed(
        self, query: Any, key: Any, value: Any, mask: Any, causal: bool, training: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Attention by weights that are there to drop or to return, [B, N, T, S]."""
        query, key, value = (
            tf.cast(x, self.dropout_layer.compute_dtype) for x in (query, key, value)
        )
        scores = tf.einsum("btne,bsne->bnts", query / math.sqrt(self.key_dim), key)
        kept = tf.ones([1, 1, 1, 1], tf.bool) if mask is None else mask
        kept = kept if kept.shape.rank == 4 else kept[:, None, None]
        if causal:
            steps, sources = tf.shape(query)[1], tf.shape(key)[1]
            kept &= tf.range(sources) <= tf.range(steps)[:, None]
        # A row without a key is taken over all keys first, so that its gradient is no NaN.
        usable = kept | ~tf.reduce_any(kept, axis=-1, keepdims=True)
        weights = tf.nn.softmax(tf.where(usable, scores, scores.dtype.min))
        weights = tf.where(kept, weights, tf.zeros([], weights.dtype))
        dropped = self.dropout_layer(weights, training=training)
        out = tf.einsum("bnts,bsne->btne", dropped, value)
        return tf.cast(out, self.compute_dtype), weights

    def compute_output_shape(
        self, query_shape: Any, value_shape: Any = None, key_shape: Any = None
    ) -> tuple[int | None, ...]:
        query, _, _ = _fitting(query_shape, value_shape, key_shape)
        return (*query[:-1], *(self._output_shape or query[-1:]))

    def compute_output_spec(
        self,
        query: Any,
        value: Any,
        key: Any = None,
        *args: Any,
        return_attention_scores: bool = False,
        **_: Any,
    ) -> Any:
        """Keras 3's: the scores are an output where they are asked for."""
        of_key = None if key is None else key.shape
        shapes = [self.compute_output_shape(query.shape, value.shape, of_key)]
        if return_attention_scores:
            shapes.append(self.axes.scores_shape(query.shape, value.shape, self.num_heads))
        specs = tuple(keras.KerasTensor(shape, dtype=self.compute_dtype) for shape in shapes)
        return specs if return_attention_scores else specs[0]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> MultiHeadAttention:
        """The layer of a config of its own or of `keras.layers.MultiHeadAttention`."""
        # Keras 2 has these: shapes come with the first call, and masks are always selects here.
        two = ("query_shape", "key_shape", "value_shape", "softmax_robust_masking")
        return super().from_config({k: v for k, v in config.items() if k not in two})

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "value_dim": self.value_dim,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "output_shape": None if self._output_shape is None else list(self._output_shape),
            "attention_axes": None if self.attention_axes is None else list(self.attention_axes),
            "sliding_window": self.sliding_window,
            "flash_attention": self.flash_attention,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": keras.regularizers.serialize(self.projection_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
            "use_gate": self.use_gate,
            "seed": self.seed,
        }


def _sizes(name: str, value: int | Sequence[int] | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    sizes = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if not all(hasattr(size, "__index__") for size in sizes):
        raise ValueError(
            f"MultiHeadAttention: Invalid `{name}`: expected an int, or a list or tuple of them, "
            f"got {value!r}"
        )
    return tuple(int(size) for size in sizes)


def _fitting(
    query_shape: Any, value_shape: Any, key_shape: Any
) -> tuple[tuple[int | None, ...], ...]:
    """Shapes of query, value and key, of which those left out are the one before."""
    query = tuple(query_shape)
    value = query if value_shape is None else tuple(value_shape)
    key = value if key_shape is None else tuple(key_shape)
    if value[1:-1] != key[1:-1]:
        raise ValueError(
            f"MultiHeadAttention: all axes of value and key between the first and the last must be "
            f"equal, got value {value} and key {key}"
        )
    if len(query) != len(value) or len(query) < 3:
        raise ValueError(
            f"MultiHeadAttention: expected query [B, ..., n] and value [B, ..., m] of one rank, 3 "
            f"or more, got query {query} and value {value}"
        )
    return query, value, key


def mask_of(tensor: Any, mask: Any) -> tf.Tensor | None:
    """The mask given, or else the one that Keras carries with the tensor, as bool."""
    mask = kept(mask, tensor)
    return None if mask is None else tf.cast(mask, tf.bool)


def _all_of(*masks: tf.Tensor | None) -> tf.Tensor | None:
    present = list({id(mask): mask for mask in masks if mask is not None}.values())
    return functools.reduce(tf.logical_and, present) if present else None


def kept_inputs(tensor: Any, mask: tf.Tensor | None) -> Any:
    """Zero where it is masked: NaN would pass into the gradient of a kernel, even times 0."""
    if mask is None:
        return tensor
    return tf.where(mask[..., None], tensor, tf.zeros([], tensor.dtype))


def _kept_once(*pairs: tuple[Any, tf.Tensor | None]) -> list[Any]:
    """`kept_inputs` of each pair, made once where it is the same tensor and mask again."""
    made: dict[tuple[int, int], Any] = {}
    for tensor, mask in pairs:
        if (id(tensor), id(mask)) not in made:
            made[id(tensor), id(mask)] = kept_inputs(tensor, mask)
    return [made[id(tensor), id(mask)] for tensor, mask in pairs]


def _padded(tensor: tf.Tensor, width: int) -> tf.Tensor:
    """Zeros behind the last axis up to `width`, which add nothing to an inner product."""
    missing = width - tensor.shape[-1]
    return tf.pad(tensor, [[0, 0]] * 3 + [[0, missing]]) if missing else tensor
