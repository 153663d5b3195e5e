"""Layer of the cross network (DCN, DCNv2)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops import ops
from recops._core import checks, compat
from recops._core.compat import keras
from recops.layers.base import OpLayer, positive, static_shape, varied

_PARAMETERIZATIONS = ("vector", "matrix")


@compat.serializable
class Cross(OpLayer):
    """Stacked cross layers: [B, n] -> [B, n]. See `recops.ops.cross_network`.

        vector:  x_{l+1} = x_0 * (x_l . w_l) + b_l + x_l        2 L n parameters
        matrix:  x_{l+1} = x_0 * (x_l @ W_l + b_l) + x_l        L n (n + 1) parameters

    Args:
      num_layers: L; the output holds interactions of orders 1 to L + 1.
      parameterization: "vector" (DCN) or "matrix" (DCNv2).
      kernel_initializer, bias_initializer, kernel_regularizer: as in `keras.layers.Dense`.
      backend: which backend runs; None leaves the choice to recops.

    Defaults: num_layers=3, parameterization="vector", kernel_initializer="glorot_uniform",
    bias_initializer="zeros".

    Call: inputs [B, n], float, n static. Returns [B, n] in the compute dtype.

    Source: Wang et al., Deep & Cross Network, ADKDD 2017; DCN V2, WWW 2021.

    Example:
      >>> import numpy as np
      >>> cross = Cross(num_layers=3)
      >>> cross(np.ones((2, 5), "float32")).shape, cross.count_params()
      (TensorShape([2, 5]), 30)
    """

    def __init__(
        self,
        num_layers: int = 3,
        parameterization: str = "vector",
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        positive(self, num_layers=num_layers)
        self.num_layers = num_layers
        self.parameterization = checks.choice(
            "Cross", "parameterization", parameterization, _PARAMETERIZATIONS
        )
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape: Any) -> None:
        (width,) = static_shape(self, input_shape, "B n")
        self.kernels = [
            self.add_weight(
                name=f"kernel_{i}",
                shape=(width,) if self.parameterization == "vector" else (width, width),
                initializer=varied(self.kernel_initializer, i),
                regularizer=self.kernel_regularizer,
            )
            for i in range(self.num_layers)
        ]
        self.biases = [
            self.add_weight(name=f"bias_{i}", shape=(width,), initializer=self.bias_initializer)
            for i in range(self.num_layers)
        ]
        self.built = True

    def call(self, inputs: Any) -> tf.Tensor:
        return ops.cross_network(inputs, self.kernels, self.biases, backend=self.backend or "auto")

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (input_shape[0], *static_shape(self, input_shape, "B n"))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_layers": self.num_layers,
            "parameterization": self.parameterization,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }
