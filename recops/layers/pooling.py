"""Layer of attentional pooling over pairs (AFM)."""

from __future__ import annotations

from typing import Any

from recops import ops
from recops._core import compat
from recops._core.compat import keras
from recops.layers.base import OpLayer, drawn_as, positive, static_shape, varied


@compat.serializable
class AttentionalPooling(OpLayer):
    """Pairs pooled by an attention network (AFM): [B, F, D] -> [B, D].

        out[b] = sum_p a[b, p] x_i * x_j        a = softmax_p(h . relu((x_i * x_j) W + b))

    See `recops.ops.attentional_pooling`.

    Args:
      attention_factor: A, the width of the hidden layer.
      return_weights: also return the weights a, [B, P].
      kernel_initializer: of W, and of h as for a Dense layer of A to 1.
      bias_initializer, kernel_regularizer: as in `keras.layers.Dense`.
      backend: which backend runs; None leaves the choice to recops.

    Defaults: attention_factor=8, return_weights=False, kernel_initializer="glorot_uniform",
    bias_initializer="zeros".

    Call: inputs [B, F, D], float, F >= 2. Returns [B, D], or ([B, D], [B, P]), in the compute
    dtype.

    Source: Xiao et al., Attentional Factorization Machines, IJCAI 2017, eq. 4 and 5.

    Example:
      >>> import numpy as np
      >>> AttentionalPooling()(np.ones((2, 4, 3), "float32")).shape
      TensorShape([2, 3])
    """

    def __init__(
        self,
        attention_factor: int = 8,
        return_weights: bool = False,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        positive(self, attention_factor=attention_factor)
        self.attention_factor = attention_factor
        self.return_weights = return_weights
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape: Any) -> None:
        _, dim = static_shape(self, input_shape, "B F D", 2)
        factor = self.attention_factor
        self.kernel = self.add_weight(
            name="kernel",
            shape=(dim, factor),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
        )
        self.bias = self.add_weight(name="bias", shape=(factor,), initializer=self.bias_initializer)
        self.projection = self.add_weight(
            name="projection",
            shape=(factor,),
            initializer=drawn_as(varied(self.kernel_initializer, 1), (factor, 1)),
        )
        self.built = True

    def call(self, inputs: Any) -> Any:
        pooled, weights = ops.attentional_pooling(
            inputs, self.kernel, self.bias, self.projection, backend=self.backend or "auto"
        )
        return (pooled, weights) if self.return_weights else pooled

    def compute_output_shape(self, input_shape: Any) -> Any:
        fields, dim = static_shape(self, input_shape, "B F D", 2)
        pooled = (input_shape[0], dim)
        weights = (input_shape[0], fields * (fields - 1) // 2)
        return (pooled, weights) if self.return_weights else pooled

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "attention_factor": self.attention_factor,
            "return_weights": self.return_weights,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }
