"""Layer of the compressed interaction network (xDeepFM)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from recops import ops
from recops._core import compat
from recops._core.compat import keras
from recops.layers.base import OpLayer, drawn_as, positive, static_shape, varied


@compat.serializable
class CIN(OpLayer):
    """Compressed interaction network: [B, F, D] -> [B, n]. See `recops.ops.cin`.

        x_{k+1}[o] = activation(sum_{h, f} W_k[o, h, f] x_k[h] * x_0[f] + b_k[o])

    Layer k holds interactions of order k + 1; each of its maps is summed over D.

    Args:
      layer_size: number of maps of each layer.
      activation: of each layer, as in `keras.layers.Dense`; None is linear, DeepCTR has "relu".
      split_half: only the first half of a layer's maps goes on and only the second half is output
        (the last layer's are all output), as in DeepCTR; the sizes but the last must be even.
      use_bias: whether each map has a bias.
      kernel_initializer, bias_initializer, kernel_regularizer: as in `keras.layers.Dense`; a kernel
        is drawn as that of a Dense layer from the Hk F products to the H maps.
      backend: which backend runs; None leaves the choice to recops.

    Defaults: layer_size=(128, 128), split_half=False, use_bias=False,
    kernel_initializer="glorot_uniform", bias_initializer="zeros".

    Call: inputs [B, F, D], float, F and D static. Returns [B, n] in the compute dtype, n the sum of
    layer_size, less what goes on with split_half.

    Source: Lian et al., xDeepFM, KDD 2018, section 4.2.

    Example:
      >>> import numpy as np
      >>> layer = CIN((8, 4))
      >>> layer(np.ones((2, 5, 3), "float32")).shape, layer.count_params()
      (TensorShape([2, 12]), 360)
    """

    def __init__(
        self,
        layer_size: Sequence[int] = (128, 128),
        activation: Any = None,
        split_half: bool = False,
        use_bias: bool = False,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        self.layer_size = tuple(layer_size)
        if not self.layer_size:
            raise ValueError("CIN: layer_size must name the maps of at least one layer, got ()")
        for k, maps in enumerate(self.layer_size):
            positive(self, **{f"layer_size[{k}]": maps})
            if split_half and k < len(self.layer_size) - 1 and maps % 2:
                raise ValueError(
                    f"CIN: split_half needs even sizes but for the last layer, got {maps} in "
                    f"layer_size {self.layer_size}"
                )
        self.activation = keras.activations.get(activation)
        self.split_half = split_half
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape: Any) -> None:
        fields, _ = static_shape(self, input_shape, "B F D")
        self.kernels, self.biases = [], []
        before = fields
        for k, maps in enumerate(self.layer_size):
            self.kernels.append(
                self.add_weight(
                    name=f"kernel_{k}",
                    shape=(maps, before, fields),
                    initializer=drawn_as(
                        varied(self.kernel_initializer, k), (before * fields, maps)
                    ),
                    regularizer=self.kernel_regularizer,
                )
            )
            if self.use_bias:
                self.biases.append(
                    self.add_weight(
                        name=f"bias_{k}", shape=(maps,), initializer=self.bias_initializer
                    )
                )
            before = maps // 2 if self.split_half else maps
        self.built = True

    def call(self, inputs: Any) -> tf.Tensor:
        return ops.cin(
            inputs,
            self.kernels,
            self.biases if self.use_bias else None,
            self.activation,
            self.split_half,
            backend=self.backend or "auto",
        )

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        *inner, last = self.layer_size
        return (input_shape[0], sum(n // 2 if self.split_half else n for n in inner) + last)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "layer_size": list(self.layer_size),
            "activation": keras.activations.serialize(self.activation),
            "split_half": self.split_half,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }
