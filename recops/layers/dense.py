"""Keras's Dense on the op where that is faster: in 16 bit, and on sequences."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops import ops
from recops._core import compat, dispatch
from recops._core.activations import ACTIVATIONS
from recops._core.compat import keras
from recops._core.numerics import HALF


@compat.serializable
class Dense(keras.layers.Dense):
    """`keras.layers.Dense`, on `recops.ops.dense` where that is faster: [..., N] -> [..., units].

    Arguments, weights and results are those of the Keras layer. In 16 bit the op runs: XLA widens
    bfloat16 to float32 on a CPU, while the op's kernel multiplies bfloat16 where the processor can.
    On sequences [B, T, N] it runs as well, since XLA makes the kernel's gradient of so many rows on
    one thread. A float32 matrix [B, N] is left to Keras: TensorFlow multiplies it as fast.

    Args:
      units: width of the result.
      activation: any of Keras's; "relu", "sigmoid" and "tanh" become part of the op.
      backend: which backend runs the op; None leaves the choice to recops.
      **kwargs: all else that `keras.layers.Dense` takes.

    Call: inputs [..., N], float. Returns [..., units] in the compute dtype.

    Numerics: 16-bit products are summed in float32; the result is rounded once, after bias and
    activation.

    Source: `keras.layers.Dense`; "relu": Glorot et al., Deep Sparse Rectifier Neural Networks,
    AISTATS 2011.

    Example:
      >>> import numpy as np
      >>> layer = Dense(3, "relu", dtype="mixed_bfloat16")
      >>> layer(np.ones((2, 5), "float32")).dtype
      tf.bfloat16
    """

    def __init__(
        self, units: int, activation: Any = None, *, backend: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(units, activation=activation, **kwargs)
        if backend is not None:
            dispatch.check_name(backend, f"{type(self).__name__}: backend")
        self.backend = backend

    def call(self, inputs: Any) -> tf.Tensor:
        narrow = tf.as_dtype(self.compute_dtype) in HALF
        if _altered(self) or not (narrow or len(inputs.shape) > 2):
            return super().call(inputs)
        x, kernel = tf.cast(inputs, self.compute_dtype), compat.as_tensor(self.kernel)
        bias = compat.as_tensor(self.bias) if self.use_bias else None
        known = fused(self.activation)
        y = ops.dense(x, kernel, bias, known, backend=self.backend or "auto")
        return y if known else self.activation(y)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "backend": self.backend}


def fused(activation: Any) -> str | None:
    """The op's name of an activation of Keras that it applies itself, or None."""
    function = keras.activations.get(activation)
    known = [name for name in ACTIVATIONS if keras.activations.get(name) is function]
    return known[0] if known else None


def _altered(layer: Any) -> bool:
    """Whether Keras has quantized the kernel or put another beside it (LoRA)."""
    return bool(getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False))
