"""The Keras forms: its GRU layer where it has one, else `RNN` over a cell written by hand."""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from recops._core import compat

keras = compat.keras


class _Cell(compat.Layer):
    """One step of an attentional GRU; the score is the input's last column."""

    def __init__(
        self, units: int, gru_type: str, augru_form: str, reset_after: bool, **kwargs: Any
    ) -> None:
        super().__init__(name="cell", **kwargs)  # a class's leading underscore is no scope name
        self.units = self.state_size = self.output_size = units
        self.gru_type, self.augru_form, self.reset_after = gru_type, augru_form, reset_after

    def build(self, input_shape: Any) -> None:
        width, units = input_shape[-1] - 1, self.units
        self.kernel = self.add_weight(shape=(width, 3 * units), name="kernel")
        self.recurrent_kernel = self.add_weight(shape=(units, 3 * units), name="recurrent")
        self.bias = self.add_weight(shape=(2, 3 * units), name="bias")
        self.built = True

    def call(self, inputs: tf.Tensor, states: Any) -> tuple[tf.Tensor, list[tf.Tensor]]:
        h, units = states[0], self.units
        x, a = inputs[:, :-1], inputs[:, -1:]
        kernel, recurrent = compat.as_tensor(self.kernel), compat.as_tensor(self.recurrent_kernel)
        bias = compat.as_tensor(self.bias)
        x = a * x if self.gru_type == "aigru" else x
        projected = tf.matmul(x, kernel) + bias[0]
        zr = tf.matmul(h, recurrent[:, : 2 * units]) + bias[1, : 2 * units]
        z, r = tf.split(tf.sigmoid(projected[:, : 2 * units] + zr), 2, axis=1)
        if self.reset_after:
            inner = r * (tf.matmul(h, recurrent[:, 2 * units :]) + bias[1, 2 * units :])
        else:
            inner = tf.matmul(r * h, recurrent[:, 2 * units :]) + bias[1, 2 * units :]
        c = tf.tanh(projected[:, 2 * units :] + inner)
        if self.gru_type == "agru":
            keep = 1 - a
        elif self.gru_type == "augru":
            keep = 1 - a * (1 - z) if self.augru_form == "paper" else (1 - a) * z
        else:
            keep = z
        h = keep * h + (1 - keep) * c
        return h, [h]


@functools.cache
def _rnn(
    dtype: str,
    width: int,
    units: int,
    gru_type: str,
    augru_form: str,
    reset_after: bool,
    **options: bool,
) -> Any:
    """One layer for each use (`width` tells them apart), as a user has one in a model."""
    cell = _Cell(units, gru_type, augru_form, reset_after, dtype=dtype)
    return keras.layers.RNN(cell, return_sequences=True, return_state=True, dtype=dtype, **options)


@functools.cache
def _gru(
    dtype: str, width: int, units: int, reset_after: bool, use_bias: bool, **options: bool
) -> Any:
    """One layer for each use."""
    return keras.layers.GRU(
        units,
        return_sequences=True,
        return_state=True,
        reset_after=reset_after,
        use_bias=use_bias,
        recurrent_initializer="zeros",  # the default's QR has no bfloat16 kernel
        dtype=dtype,
        **options,
    )


def _rnn_over_a_cell(
    x: tf.Tensor,
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor | None = None,
    attention: tf.Tensor | None = None,
    mask: tf.Tensor | None = None,
    initial_state: tf.Tensor | None = None,
    gru_type: str = "gru",
    augru_form: str = "paper",
    reset_after: bool = False,
    **options: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    units = recurrent_kernel.shape[0]
    layer = _rnn(x.dtype.name, x.shape[2], units, gru_type, augru_form, reset_after, **options)
    score = tf.ones_like(x[:, :, :1]) if attention is None else attention[..., None]
    if bias is None:
        bias = tf.zeros([2, 3 * units], x.dtype)
    elif bias.shape.rank == 1:
        bias = tf.stack([bias, tf.zeros_like(bias)])
    weights = [kernel, recurrent_kernel, bias]
    inputs = tf.concat([x, score], axis=2)
    if mask is not None:
        inputs = tf.where(mask[..., None], inputs, tf.zeros([], x.dtype))
    return compat.stateless(layer, weights, inputs, mask=mask, initial_state=initial_state)


def _keras_gru(
    x: tf.Tensor,
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor | None = None,
    attention: tf.Tensor | None = None,
    mask: tf.Tensor | None = None,
    initial_state: tf.Tensor | None = None,
    gru_type: str = "gru",
    augru_form: str = "paper",
    reset_after: bool = False,
    **options: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    if gru_type not in ("gru", "aigru"):
        return _rnn_over_a_cell(
            x,
            kernel,
            recurrent_kernel,
            bias,
            attention,
            mask,
            initial_state,
            gru_type,
            augru_form,
            reset_after,
            **options,
        )
    units, biased = recurrent_kernel.shape[0], bias is not None
    layer = _gru(x.dtype.name, x.shape[2], units, reset_after, biased, **options)
    if mask is not None:
        x = tf.where(mask[..., None], x, tf.zeros([], x.dtype))
    x = x if attention is None else attention[..., None] * x
    weights = [kernel, recurrent_kernel, *([] if bias is None else [bias])]
    return compat.stateless(layer, weights, x, mask=mask, initial_state=initial_state)


FORMS = {"dynamic_gru": {"keras_gru": _keras_gru, "rnn_cell": _rnn_over_a_cell}}
