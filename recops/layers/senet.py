"""Squeeze-and-excitation over fields (FiBiNET)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops._core import checks, compat
from recops._core.compat import keras
from recops._core.numerics import accumulate
from recops.layers.base import OpLayer, positive, static_shape, varied

_SQUEEZES = {"mean": tf.reduce_mean, "max": tf.reduce_max}


@compat.serializable
class SENET(OpLayer):
    """Fields re-weighted by squeeze and excitation: [B, F, D] -> [B, F, D].

        z = mean_d x        a = relu(relu(z W1) W2)        out[b, i] = a[b, i] x[b, i]

    No bias anywhere: an input of zeros stays zero.

    Args:
      reduction_ratio: r; the hidden layer has max(1, F // r) units.
      squeeze: "mean" or "max" over D; outliers pull "max" off.
      kernel_initializer, kernel_regularizer: as in `keras.layers.Dense`.
      return_weights: also return the weights a, [B, F].
      backend: taken as in every layer; two products have one implementation.

    Defaults: reduction_ratio=3, squeeze="mean", kernel_initializer="glorot_uniform",
    return_weights=False.

    Call: inputs [B, F, D], float. Returns [B, F, D], or ([B, F, D], [B, F]), in the compute dtype.

    Numerics: 16-bit inputs are computed in float32 and rounded once.

    Source: Huang et al., FiBiNET, RecSys 2019, section 3.2.

    Example:
      >>> import numpy as np
      >>> layer = SENET(reduction_ratio=3)
      >>> layer(np.ones((2, 6, 4), "float32")).shape, layer.count_params()
      (TensorShape([2, 6, 4]), 24)
    """

    def __init__(
        self,
        reduction_ratio: int = 3,
        squeeze: str = "mean",
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        return_weights: bool = False,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        positive(self, reduction_ratio=reduction_ratio)
        self.reduction_ratio = reduction_ratio
        self.squeeze = checks.choice("SENET", "squeeze", squeeze, tuple(_SQUEEZES))
        self.return_weights = return_weights
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape: Any) -> None:
        fields, _ = static_shape(self, input_shape, "B F D")
        middle = max(1, fields // self.reduction_ratio)
        self.squeeze_kernel = self.add_weight(
            name="squeeze_kernel",
            shape=(fields, middle),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
        )
        self.excitation_kernel = self.add_weight(
            name="excitation_kernel",
            shape=(middle, fields),
            initializer=varied(self.kernel_initializer, 1),
            regularizer=self.kernel_regularizer,
        )
        self.built = True

    def call(self, inputs: Any) -> Any:
        x = checks.floats("SENET", "inputs", inputs, "B F D")
        kernels = [compat.as_tensor(k) for k in (self.squeeze_kernel, self.excitation_kernel)]
        out, weights = _reweighted(x, *kernels, _SQUEEZES[self.squeeze])
        return (out, weights) if self.return_weights else out

    def compute_output_shape(self, input_shape: Any) -> Any:
        fields, dim = static_shape(self, input_shape, "B F D")
        out, weights = (input_shape[0], fields, dim), (input_shape[0], fields)
        return (out, weights) if self.return_weights else out

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "reduction_ratio": self.reduction_ratio,
            "squeeze": self.squeeze,
            "return_weights": self.return_weights,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }


@accumulate
def _reweighted(
    x: tf.Tensor, first: tf.Tensor, second: tf.Tensor, squeeze: Any
) -> tuple[tf.Tensor, tf.Tensor]:
    weights = tf.nn.relu(tf.matmul(tf.nn.relu(tf.matmul(squeeze(x, axis=2), first)), second))
    return x * weights[:, :, None], weights
