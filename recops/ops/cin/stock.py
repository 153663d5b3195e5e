"""What a Keras user writes for a compressed interaction network today."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from recops._core.compat import keras

_Layer = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


def _convolution(x0: tf.Tensor, xk: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Split by dimension, outer products, a convolution of width 1: as public CIN layers do."""
    maps, before, fields = kernel.shape
    columns0 = tf.split(x0, x0.shape[2] * [1], axis=2)
    columnsk = tf.split(xk, xk.shape[2] * [1], axis=2)
    outer = tf.matmul(tf.stack(columnsk), tf.stack(columns0), transpose_b=True)  # [D, B, Hk, F]
    outer = tf.transpose(tf.reshape(outer, [x0.shape[2], -1, before * fields]), [1, 0, 2])
    filters = tf.transpose(tf.reshape(kernel, [maps, before * fields]))[None]
    return tf.transpose(tf.nn.conv1d(outer, filters, stride=1, padding="VALID"), [0, 2, 1])


def _einsum(x0: tf.Tensor, xk: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    return tf.einsum("bhfd,ohf->bod", tf.einsum("bhd,bfd->bhfd", xk, x0), kernel)


def _outer_gemm(x0: tf.Tensor, xk: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """One GEMM on outer products laid out by row."""
    maps, before, fields = kernel.shape
    rows0, rowsk = tf.transpose(x0, [0, 2, 1]), tf.transpose(xk, [0, 2, 1])
    outer = tf.reshape(rowsk[..., None] * rows0[:, :, None], [-1, before * fields])
    out = tf.matmul(outer, tf.reshape(kernel, [maps, -1]), transpose_b=True)
    return tf.transpose(tf.reshape(out, [-1, x0.shape[2], maps]), [0, 2, 1])


def _fields_last(x0: tf.Tensor, xk: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """The kernel first, then the fields: no outer product of the inputs, but one of F by H."""
    turned = tf.einsum("bhd,ohf->bdof", xk, kernel)
    return tf.einsum("bdof,bfd->bod", turned, x0)


_LAYERS: dict[str, _Layer] = {
    "conv1d": _convolution,
    "einsum": _einsum,
    "outer_gemm": _outer_gemm,
    "fields_last": _fields_last,
}


def _stacked(layer: _Layer) -> Callable[..., tf.Tensor]:
    def cin(
        x: tf.Tensor,
        kernels: Sequence[tf.Tensor],
        biases: Sequence[tf.Tensor] | None = None,
        activation: Any = None,
        split_half: bool = False,
    ) -> tf.Tensor:
        state, outputs = x, []
        for k, kernel in enumerate(kernels):
            state = layer(x, state, kernel)
            if biases is not None:
                state = state + biases[k][:, None]
            shown = state = keras.activations.get(activation)(state)
            if split_half and k < len(kernels) - 1:
                state, shown = tf.split(state, 2, axis=1)
            outputs.append(tf.reduce_sum(shown, axis=2))
        return tf.concat(outputs, axis=1)

    return cin


FORMS = {
    "compressed_interaction": _LAYERS,
    "cin": {name: _stacked(layer) for name, layer in _LAYERS.items()},
}
