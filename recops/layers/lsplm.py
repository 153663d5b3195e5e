"""The piecewise linear model LS-PLM, and the mixture of its regions."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops._core import compat
from recops._core.compat import keras
from recops._core.numerics import accumulate
from recops.layers.base import OpLayer, positive, static_shape


@compat.serializable
class L21(keras.regularizers.Regularizer):
    """L1 and L2,1 penalty of a matrix whose rows belong together: whole rows become 0.

        l1 sum_ij |w_ij| + l21 sum_i sqrt(sum_j w_ij^2)

    Source: Gai et al., Learning Piece-wise Linear Models, arXiv 2017, eq. 5.

    Example:
      >>> float(L21(l1=1.0, l21=1.0)([[3.0, -4.0], [0.0, 0.0]]))
      12.0
    """

    def __init__(self, l1: float = 0.0, l21: float = 0.0) -> None:
        self.l1 = l1
        self.l21 = l21

    def __call__(self, x: Any) -> tf.Tensor:
        x = tf.convert_to_tensor(x)
        squares = tf.reduce_sum(tf.square(x), axis=1)
        # The root has no derivative at 0; a row of zeros shall stay there.
        some = squares > 0
        norms = tf.where(some, tf.sqrt(tf.where(some, squares, 1)), 0)
        return self.l1 * tf.reduce_sum(tf.abs(x)) + self.l21 * tf.reduce_sum(norms)

    def get_config(self) -> dict[str, Any]:
        return {"l1": self.l1, "l21": self.l21}


@compat.serializable
class RegionMixture(OpLayer):
    """Mixture of the predictions of regions: [B, 2m] -> [B, 1].

        out[b] = sum_r softmax_r(x[b, :m]) sigmoid(x[b, m:])_r

    Args:
      task: "binary", or "regression", which has no sigmoid.
      backend: taken by all layers of recops; no op runs in this one.

    Defaults: task="binary".

    Call: inputs [B, 2m], float: logits of the regions, then of the predictions. Returns [B, 1] in
    float32, computed in float32.

    Source: Gai et al., Learning Piece-wise Linear Models, arXiv 2017, eq. 2.

    Example:
      >>> import numpy as np
      >>> RegionMixture()(np.zeros((1, 4), "float32")).numpy()
      array([[0.5]], dtype=float32)
    """

    def __init__(self, task: str = "binary", *, backend: str | None = None, **kwargs: Any) -> None:
        super().__init__(backend=backend, **kwargs)
        self.task = task

    def call(self, inputs: Any) -> tf.Tensor:
        return tf.cast(mixture(inputs, self.task), self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (input_shape[0], 1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "task": self.task}


@accumulate
def mixture(logits: tf.Tensor, task: str = "binary") -> tf.Tensor:
    """See `RegionMixture`."""
    regions, predictions = tf.split(logits, 2, axis=1)
    if task == "binary":
        predictions = tf.sigmoid(predictions)
    return tf.reduce_sum(tf.nn.softmax(regions) * predictions, axis=1, keepdims=True)


@compat.serializable
class LSPLM(OpLayer):
    """Large-scale piecewise linear model (MLR): [B, n] -> [B, 1], a probability.

        out[b] = sum_r softmax_r(U x[b])_r sigmoid(W x[b])_r

    Each of the regions has a logistic regression; the softmax says how much x is in it. Both
    products are one GEMM. For ids, use `recops.models.LSPLM`, which looks weights up.

    Args:
      regions: m; Alibaba's advice is 12.
      use_bias: whether U x and W x have biases.
      l1, l21: penalties of the kernel, see `L21`; a row is all weights of one input.
      kernel_initializer: of [n, 2m]; zeros would leave all regions alike for ever.
      backend: taken by all layers of recops; no op runs in this one.

    Defaults: regions=12, use_bias=True, l1=0.0, l21=0.0, kernel_initializer="glorot_uniform".

    Call: inputs [B, n], float, n static. Returns [B, 1] in the compute dtype.

    Source: Gai et al., Learning Piece-wise Linear Models, arXiv 2017, eq. 2.

    Example:
      >>> import numpy as np
      >>> layer = LSPLM(regions=4)
      >>> layer(np.ones((2, 5), "float32")).shape, layer.count_params()
      (TensorShape([2, 1]), 48)
    """

    def __init__(
        self,
        regions: int = 12,
        use_bias: bool = True,
        l1: float = 0.0,
        l21: float = 0.0,
        kernel_initializer: Any = "glorot_uniform",
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        positive(self, regions=regions)
        self.regions = regions
        self.use_bias = use_bias
        self.l1 = l1
        self.l21 = l21
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: Any) -> None:
        (width,) = static_shape(self, input_shape, "B n")
        self.kernel = self.add_weight(
            name="kernel",
            shape=(width, 2 * self.regions),
            initializer=self.kernel_initializer,
            regularizer=L21(self.l1, self.l21) if self.l1 or self.l21 else None,
        )
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(2 * self.regions,), initializer="zeros")
        self.built = True

    def call(self, inputs: Any) -> tf.Tensor:
        logits = tf.matmul(inputs, compat.as_tensor(self.kernel))
        if self.use_bias:
            logits += compat.as_tensor(self.bias)
        return mixture(logits)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (input_shape[0], 1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "regions": self.regions,
            "use_bias": self.use_bias,
            "l1": self.l1,
            "l21": self.l21,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
