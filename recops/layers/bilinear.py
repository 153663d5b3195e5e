"""Layers of products with matrix weights: bilinear interaction (FiBiNET), outer product (PNN)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops import ops
from recops._core import checks, compat
from recops._core.compat import keras
from recops.layers.base import OpLayer, drawn_as, one_by_one, positive, static_shape

BILINEAR_TYPES = ("all", "each", "interaction")


@compat.serializable
class BilinearInteraction(OpLayer):
    """Bilinear interaction of every pair of fields: [B, F, D] -> [B, P, D].

        out[b, p(i, j)] = (x[b, i] W) * x[b, j]

    See `recops.ops.bilinear_interaction`.

    Args:
      bilinear_type: which W: "all", one, D^2 parameters; "each", that of the left field, (F-1) D^2,
        since the last field is never left; "interaction", that of the pair, P D^2.
      kernel_initializer: draws each matrix alone, as for a Dense layer of D to D.
      kernel_regularizer: as in `keras.layers.Dense`.
      backend: which backend runs; None leaves the choice to recops.

    Defaults: bilinear_type="interaction", kernel_initializer="glorot_uniform".

    Call: inputs [B, F, D], float, F >= 2. Returns [B, P, D] in the compute dtype.

    Source: Huang et al., FiBiNET, RecSys 2019, section 3.3.

    Example:
      >>> import numpy as np
      >>> layer = BilinearInteraction("each")
      >>> layer(np.ones((2, 4, 3), "float32")).shape, layer.count_params()
      (TensorShape([2, 6, 3]), 27)
    """

    def __init__(
        self,
        bilinear_type: str = "interaction",
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        self.bilinear_type = checks.choice(
            "BilinearInteraction", "bilinear_type", bilinear_type, BILINEAR_TYPES
        )
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape: Any) -> None:
        fields, dim = static_shape(self, input_shape, "B F D", 2)
        count = {"all": 0, "each": fields - 1, "interaction": fields * (fields - 1) // 2}
        stack = count[self.bilinear_type]
        self.kernel = self.add_weight(
            name="kernel",
            shape=(stack, dim, dim) if stack else (dim, dim),
            initializer=one_by_one(self.kernel_initializer) if stack else self.kernel_initializer,
            regularizer=self.kernel_regularizer,
        )
        self.built = True

    def call(self, inputs: Any) -> tf.Tensor:
        return ops.bilinear_interaction(
            inputs, self.kernel, self.bilinear_type, backend=self.backend or "auto"
        )

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        fields, dim = static_shape(self, input_shape, "B F D", 2)
        return (input_shape[0], fields * (fields - 1) // 2, dim)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "bilinear_type": self.bilinear_type,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }


@compat.serializable
class OuterProduct(OpLayer):
    """Weighted outer product of the summed fields (PNN): [B, F, D] -> [B, U].

        out[b, u] = sum_de W[u, d, e] s[b, d] s[b, e]        s = sum_i x[b, i]

    See `recops.ops.outer_product`.

    Args:
      units: U.
      kernel_initializer: draws as for a Dense layer of D^2 to U.
      kernel_regularizer: as in `keras.layers.Dense`.
      backend: which backend runs; None leaves the choice to recops.

    Defaults: kernel_initializer="glorot_uniform".

    Call: inputs [B, F, D], float. Returns [B, U] in the compute dtype.

    Source: Qu et al., Product-based Neural Networks, ICDM 2016, section III-C.

    Example:
      >>> import numpy as np
      >>> layer = OuterProduct(units=5)
      >>> layer(np.ones((2, 4, 3), "float32")).shape, layer.count_params()
      (TensorShape([2, 5]), 45)
    """

    def __init__(
        self,
        units: int,
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        positive(self, units=units)
        self.units = units
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape: Any) -> None:
        _, dim = static_shape(self, input_shape, "B F D")
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.units, dim, dim),
            initializer=drawn_as(self.kernel_initializer, (dim * dim, self.units)),
            regularizer=self.kernel_regularizer,
        )
        self.built = True

    def call(self, inputs: Any) -> tf.Tensor:
        return ops.outer_product(inputs, self.kernel, backend=self.backend or "auto")

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        static_shape(self, input_shape, "B F D")
        return (input_shape[0], self.units)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }
