"""Fully connected layers, and the activation Dice whose threshold follows the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from recops._core import compat
from recops._core.compat import keras
from recops.layers.base import OpLayer, build_child, positive, varied
from recops.layers.dense import Dense, fused
from recops.layers.dropout import Dropout


@compat.serializable
class Dice(OpLayer):
    """Data-adaptive activation (DIN): PReLU whose kink stands at the mean of the batch.

        p = sigmoid((x - E[x]) / sqrt(Var[x] + epsilon))        y = p * x + (1 - p) * alpha * x

    E and Var are the batch's in training, moving averages else, per channel (the last axis).

    Args:
      epsilon: added to the variance.
      momentum: of the moving averages.
      alpha_initializer: of alpha, one a channel; alpha = 1 is the identity.
      backend: taken as in every layer; one gate has one implementation.

    Defaults: epsilon=1e-09, momentum=0.99, alpha_initializer="zeros".

    Call: inputs [..., C], float; training; mask [...] bool, True = keep: the statistics skip what
    is masked, and there the output is 0. Returns the shape of the inputs in the compute dtype.

    Numerics: statistics and gate are float32 for 16-bit inputs, in which epsilon would be 0.

    Source: Zhou et al., Deep Interest Network, KDD 2018, section 5.3.

    Example:
      >>> import numpy as np
      >>> Dice(alpha_initializer="ones")(np.array([[-1.0, 2.0]], "float32")).numpy()
      array([[-1.,  2.]], dtype=float32)
    """

    def __init__(
        self,
        epsilon: float = 1e-9,
        momentum: float = 0.99,
        alpha_initializer: Any = "zeros",
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        self.epsilon = epsilon
        self.momentum = momentum
        self.alpha_initializer = keras.initializers.get(alpha_initializer)
        self.supports_masking = True
        self.normalization = keras.layers.BatchNormalization(
            momentum=momentum,
            epsilon=epsilon,
            center=False,
            scale=False,
            name="normalization",
            dtype="float64" if self.compute_dtype == "float64" else "float32",
        )

    def build(self, input_shape: Any) -> None:
        build_child(self.normalization, input_shape)
        self.alpha = self.add_weight(
            name="alpha", shape=(input_shape[-1],), initializer=self.alpha_initializer
        )
        self.built = True

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> tf.Tensor:
        x = tf.cast(inputs, self.normalization.compute_dtype)
        if mask is not None:
            x = tf.where(mask[..., None], x, tf.zeros([], x.dtype))
        gate = tf.sigmoid(self.normalization(x, training=training, mask=mask))
        alpha = tf.cast(compat.as_tensor(self.alpha), x.dtype)
        return tf.cast(x * (gate + (1 - gate) * alpha), self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "epsilon": self.epsilon,
            "momentum": self.momentum,
            "alpha_initializer": keras.initializers.serialize(self.alpha_initializer),
        }


_LAYER_ACTIVATIONS = {"dice": Dice, "prelu": keras.layers.PReLU}


@compat.serializable
class MLP(OpLayer):
    """Fully connected layers: [..., n] -> [..., hidden_units[-1]].

    Each is Dense, then batch normalization, activation and dropout where asked for.

    Args:
      hidden_units: width of each layer.
      activation: any Keras activation, or "dice" or "prelu", which have weights.
      dropout: rate after each layer, or one rate a layer.
      use_bn: normalize before each activation.
      l2: L2 penalty of the kernels.
      use_bias: as in `keras.layers.Dense`.
      residual: add the input of a layer to its output where both have one width.
      kernel_initializer: as in `keras.layers.Dense`; each layer draws its own numbers.
      seed: of kernels and dropout.
      bn_momentum: of the moving averages that take the batch's place outside training; Keras's own
        0.99 has not settled after the few dozen steps that an epoch of a small set has.
      backend: which backend runs the products in 16 bit, see `recops.layers.Dense`.

    Defaults: activation="relu", dropout=0.0, use_bn=False, l2=0.0, use_bias=True, residual=False,
    kernel_initializer="glorot_uniform", bn_momentum=0.9.

    Call: inputs [..., n], float; training; mask [...] bool, True = keep, which batch statistics
    respect. Returns [..., hidden_units[-1]] in the compute dtype.

    Example:
      >>> import numpy as np
      >>> mlp = MLP([8, 4], activation="dice", dropout=0.1, seed=1)
      >>> mlp(np.ones((2, 3), "float32")).shape
      TensorShape([2, 4])
    """

    def __init__(
        self,
        hidden_units: Sequence[int],
        activation: Any = "relu",
        dropout: float | Sequence[float] = 0.0,
        use_bn: bool = False,
        l2: float = 0.0,
        use_bias: bool = True,
        residual: bool = False,
        kernel_initializer: Any = "glorot_uniform",
        seed: int | None = None,
        bn_momentum: float = 0.9,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        self.hidden_units = tuple(hidden_units)
        if not self.hidden_units:
            raise ValueError("MLP: hidden_units must name the width of at least one layer, got ()")
        for i, units in enumerate(self.hidden_units):
            positive(self, **{f"hidden_units[{i}]": units})
        self.rates = dropout_rates(dropout, len(self.hidden_units))
        self.activation = activation
        self.use_bn = use_bn
        self.bn_momentum = bn_momentum
        self.l2 = l2
        self.use_bias = use_bias
        self.residual = residual
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.seed = seed
        self.supports_masking = True
        dtype = self.dtype_policy
        self.dense = [self._dense(i, units) for i, units in enumerate(self.hidden_units)]
        self.normalizations = [
            batch_normalization(bn_momentum, name=f"normalization_{i}", dtype=dtype)
            for i in range(len(self.dense) if use_bn else 0)
        ]
        self.activations = [
            activation_layer(activation, name=f"activation_{i}", dtype=dtype)
            for i in range(0 if self._fused() else len(self.dense))
        ]
        self.dropouts = [
            Dropout(rate, seed=None if seed is None else seed + i, name=f"dropout_{i}", dtype=dtype)
            for i, rate in enumerate(self.rates)
        ]

    def _dense(self, i: int, units: int) -> Any:
        initializer = self.kernel_initializer
        if self.seed is not None:
            initializer = type(initializer).from_config(
                {**initializer.get_config(), "seed": self.seed}
            )
        return Dense(
            units,
            self.activation if self._fused() else None,
            use_bias=self.use_bias,
            kernel_initializer=varied(initializer, i),
            kernel_regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
            backend=self.backend,
            name=f"dense_{i}",
            dtype=self.dtype_policy,
        )

    def _fused(self) -> bool:
        """Whether nothing stands between a product and its activation."""
        layers = isinstance(self.activation, str) and self.activation in _LAYER_ACTIVATIONS
        return not self.use_bn and not layers and fused(self.activation) is not None

    def build(self, input_shape: Any) -> None:
        *batch, width = tuple(input_shape)
        for i, units in enumerate(self.hidden_units):
            build_child(self.dense[i], (*batch, width))
            for layers in (self.normalizations, self.activations, self.dropouts):
                for layer in layers[i : i + 1]:
                    build_child(layer, (*batch, units))
            width = units
        self.built = True

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> tf.Tensor:
        x = inputs
        for i, dense in enumerate(self.dense):
            y = dense(x)
            if self.use_bn:
                y = self.normalizations[i](y, training=training, mask=mask)
            for activation in self.activations[i : i + 1]:
                statistics = {"training": training, "mask": mask}
                y = activation(y, **statistics if isinstance(activation, Dice) else {})
            y = self.dropouts[i](y, training=training)
            x = x + y if self.residual and x.shape[-1] == y.shape[-1] else y
        return x

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (*tuple(input_shape)[:-1], self.hidden_units[-1])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "hidden_units": list(self.hidden_units),
            "activation": self.activation
            if isinstance(self.activation, (str, dict, type(None)))
            else keras.activations.serialize(self.activation),
            "dropout": list(self.rates),
            "use_bn": self.use_bn,
            "l2": self.l2,
            "use_bias": self.use_bias,
            "residual": self.residual,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "seed": self.seed,
            "bn_momentum": self.bn_momentum,
        }


def dropout_rates(
    dropout: float | Sequence[float], layers: int, where: str = "MLP"
) -> tuple[float, ...]:
    """One dropout rate a layer."""
    rates = (dropout,) * layers if isinstance(dropout, (int, float)) else tuple(dropout)
    if len(rates) != layers or not all(0 <= rate < 1 for rate in rates):
        raise ValueError(
            f"{where}: dropout must be one rate in [0, 1) or one for each of the {layers} layers, "
            f"got {dropout!r}"
        )
    return rates


def activation_layer(activation: Any, **kwargs: Any) -> Any:
    """A layer of any Keras activation, "dice" or "prelu"."""
    if isinstance(activation, str) and activation in _LAYER_ACTIVATIONS:
        return _LAYER_ACTIVATIONS[activation](**kwargs)
    return keras.layers.Activation(activation, **kwargs)


def batch_normalization(momentum: float, **kwargs: Any) -> Any:
    """Keras's batch normalization, where the momentum is one."""
    if not 0 <= momentum < 1:
        raise ValueError(
            f"bn_momentum must be in [0, 1), the share of a moving average that a step keeps, got "
            f"{momentum!r}"
        )
    return keras.layers.BatchNormalization(momentum=momentum, **kwargs)
