"""What a Keras user writes for DIN's activation unit today; benches compare with the fastest."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from recops._core.activations import ACTIVATIONS

_Outputs = tuple[tf.Tensor, tf.Tensor]
_Tensors = list[tf.Tensor]


def _unit(first: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]) -> Callable[..., _Outputs]:
    """The unit with a first layer of (query, keys, kernel)."""

    def form(
        query: tf.Tensor,
        keys: tf.Tensor,
        kernels: _Tensors,
        biases: _Tensors,
        mask: tf.Tensor | None = None,
        activation: str | None = "sigmoid",
        normalize: bool = True,
    ) -> _Outputs:
        function, _ = ACTIVATIONS[activation or "linear"]
        x = first(query, keys, kernels[0])
        for i, kernel in enumerate(kernels):
            x = x if i == 0 else tf.tensordot(x, kernel, 1)
            x = tf.nn.bias_add(x, biases[i]) if i < len(biases) else x
            x = function(x) if i < len(kernels) - 1 else x
        weights = tf.squeeze(x, axis=2)  # [B, T]
        if mask is not None and normalize:
            weights = tf.where(mask, weights, tf.constant(weights.dtype.min, weights.dtype))
        if normalize:
            weights = tf.nn.softmax(weights)
        if mask is not None:
            weights = tf.where(mask, weights, tf.zeros([], weights.dtype))
        return tf.squeeze(tf.matmul(weights[:, None], keys), axis=1), weights

    return form


def _tile_concat(query: tf.Tensor, keys: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """The usual form: the target repeated for each step, everything concatenated."""
    q = tf.tile(query[:, None], [1, tf.shape(keys)[1], 1])
    return tf.tensordot(tf.concat([q, keys, q - keys, q * keys], axis=2), kernel, 1)


def _split_layers(query: tf.Tensor, keys: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """A Dense layer for each part, the target's on [B, D]: no concatenation."""
    of_query, of_key, of_difference, of_product = tf.split(kernel, 4)
    x = tf.tensordot(keys, of_key, 1) + tf.matmul(query, of_query)[:, None]
    q = query[:, None]
    return x + tf.tensordot(q - keys, of_difference, 1) + tf.tensordot(q * keys, of_product, 1)


def _folded(query: tf.Tensor, keys: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """The difference's kernel joined to those of its two sides."""
    of_query, of_key, of_difference, of_product = tf.split(kernel, 4)
    x = tf.tensordot(keys, of_key - of_difference, 1)
    x += tf.tensordot(query[:, None] * keys, of_product, 1)
    return x + tf.matmul(query, of_query + of_difference)[:, None]


FORMS = {
    "target_attention": {
        "tile_concat": _unit(_tile_concat),
        "split_layers": _unit(_split_layers),
        "folded": _unit(_folded),
    },
}
