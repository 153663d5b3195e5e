"""The bidirectional LSTM of DSIN, which reads a sequence from both ends past its padding."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops._core import checks, compat
from recops._core.compat import keras
from recops.layers.base import OpLayer, build_child, positive
from recops.layers.mlp import dropout_rates

MERGE_MODES = ("fw", "bw", "concat", "sum", "ave", "mul")


@compat.serializable
class BiLSTM(OpLayer):
    """Two stacks of LSTMs, one from either end, merged: [B, T, D] -> [B, T, H].

    The stacks are independent: neither sees the other before they are merged. (In a stack of
    `keras.layers.Bidirectional` each layer reads both directions of the one below.)

    Args:
      units: H.
      layers: LSTMs in each stack.
      res_layers: how many of the last layers add their input to their output; the first layer can
        only where D == H.
      dropout_rate: of each layer's inputs, one mask a sequence.
      merge_mode: "fw" or "bw" (one stack alone), "concat" ([B, T, 2H]), "sum", "ave", "mul", or
        None: a list of both.
      seed: of kernels and dropout.
      backend: taken as in every layer; the recurrence is `keras.layers.RNN`.

    Defaults: layers=2, res_layers=0, dropout_rate=0.2, merge_mode="ave".

    Call: x [B, T, D], float; mask [B, T] bool, True = keep, in any pattern; training. Returns
    the merged outputs [B, T, H], [B, T, 2H] of "concat", in the compute dtype, each at its own
    step.

    Numerics: the state is float32 under a mixed policy. A masked step copies the state in either
    direction, its output is 0, and what stands there, NaN included, changes nothing: padding at
    the end is skipped by the backward stack, not read first.

    Source: Feng et al., Deep Session Interest Network, IJCAI 2019, section 3.4.

    Example:
      >>> import numpy as np
      >>> BiLSTM(4, merge_mode="concat")(np.ones((2, 5, 3), "float32")).shape
      TensorShape([2, 5, 8])
    """

    def __init__(
        self,
        units: int,
        layers: int = 2,
        res_layers: int = 0,
        dropout_rate: float = 0.2,
        merge_mode: str | None = "ave",
        seed: int | None = None,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        positive(self, units=units, layers=layers)
        if not 0 <= res_layers <= layers:
            raise ValueError(
                f"BiLSTM: res_layers must be between 0 and layers = {layers}, got {res_layers!r}"
            )
        if merge_mode is not None:
            checks.choice("BiLSTM", "merge_mode", merge_mode, MERGE_MODES)
        dropout_rates(dropout_rate, 1, "BiLSTM")
        self.units = units
        self.layers = layers
        self.res_layers = res_layers
        self.dropout_rate = dropout_rate
        self.merge_mode = merge_mode
        self.seed = seed
        self.supports_masking = True
        self.forward = [self._lstm("forward", i) for i in range(layers)]
        self.backward = [self._lstm("backward", i) for i in range(layers)]
        self.dropouts = [
            keras.layers.SpatialDropout1D(
                dropout_rate,
                seed=self._seed(4 * layers + i),
                name=f"dropout_{i}",
                dtype=self.variable_dtype,
            )
            for i in range(2 * layers if dropout_rate else 0)
        ]

    def _lstm(self, direction: str, i: int) -> Any:
        # Keras's LSTM would take cuDNN's kernel and switch XLA off; its cell does not.
        place = 2 * (i + self.layers * (direction == "backward"))
        cell = keras.layers.LSTMCell(
            self.units,
            kernel_initializer=keras.initializers.GlorotUniform(seed=self._seed(place)),
            recurrent_initializer=keras.initializers.Orthogonal(seed=self._seed(place + 1)),
            bias_initializer="ones",
            name="cell",
            dtype=self.variable_dtype,
        )
        return keras.layers.RNN(
            cell,
            return_sequences=True,
            go_backwards=direction == "backward",
            name=f"{direction}_{i}",
            dtype=self.variable_dtype,
        )

    def _seed(self, place: int) -> int | None:
        return None if self.seed is None else self.seed + place

    def build(self, input_shape: Any) -> None:
        batch, steps, width = tuple(input_shape)
        if self.res_layers == self.layers and width != self.units:
            raise ValueError(
                f"BiLSTM: with res_layers = layers = {self.layers} the input is added to the first "
                f"layer's output, so D must be units = {self.units}, got D = {width}"
            )
        for stack in (self.forward, self.backward):
            for i, lstm in enumerate(stack):
                build_child(lstm, (batch, steps, self.units if i else width))
        self.built = True

    def call(self, x: Any, mask: Any = None, training: Any = None) -> Any:
        x = tf.cast(x, self.variable_dtype)
        kept = None if mask is None else tf.cast(mask, tf.bool)
        if kept is not None:
            x = tf.where(kept[..., None], x, tf.zeros([], x.dtype))
        fw = self._stack(x, kept, training, self.forward, 0)
        bw = self._stack(x, kept, training, self.backward, self.layers)
        merged = self._merged(fw, bw)
        return tf.nest.map_structure(lambda y: tf.cast(y, self.compute_dtype), merged)

    def _stack(self, x: Any, mask: Any, training: Any, stack: list[Any], first: int) -> Any:
        for i, lstm in enumerate(stack):
            dropped = self.dropouts[first + i](x, training=training) if self.dropouts else x
            if x.shape[0] == 0:  # Keras's cell fails where it sees that there is no row
                y = tf.zeros([0, tf.shape(x)[1], self.units], x.dtype)
            else:
                y = lstm(dropped, mask=mask, training=training)
            if lstm.go_backwards:
                y = tf.reverse(y, [1])  # from the order of processing to that of time
            x = x + y if i >= self.layers - self.res_layers else y
        if mask is None:
            return x
        return tf.where(mask[..., None], x, tf.zeros([], x.dtype))

    def _merged(self, fw: tf.Tensor, bw: tf.Tensor) -> Any:
        if self.merge_mode is None:
            return [fw, bw]
        if self.merge_mode in ("fw", "bw"):
            return fw if self.merge_mode == "fw" else bw
        if self.merge_mode == "concat":
            return tf.concat([fw, bw], axis=-1)
        if self.merge_mode == "mul":
            return fw * bw
        return (fw + bw) / 2 if self.merge_mode == "ave" else fw + bw

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return [mask, mask] if self.merge_mode is None else mask

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, steps, _ = tuple(input_shape)
        shape = (batch, steps, self.units * (2 if self.merge_mode == "concat" else 1))
        return [shape, shape] if self.merge_mode is None else shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "layers": self.layers,
            "res_layers": self.res_layers,
            "dropout_rate": self.dropout_rate,
            "merge_mode": self.merge_mode,
            "seed": self.seed,
        }
