"""FTRL-Proximal that moves the rows in the batch alone."""

from __future__ import annotations

from typing import Any

from recops._core import compat
from recops._core.compat import keras
from recops.optimizers.row_sparse import RowSparse, check_arguments


@compat.serializable
class LazyFTRL(RowSparse, keras.optimizers.Ftrl):
    """FTRL-Proximal for the wide part of a model: l1 makes its weights exactly 0.

        n' = n + g^2        z += g - (n'^-p - n^-p) / learning_rate row        of the rows used
        row = (clip(z, -l1, l1) - z) / (n'^-p / learning_rate + 2 l2 + beta / learning_rate)

    On a dense gradient this is `keras.optimizers.Ftrl`. FTRL does not move a row that has no
    gradient, so this is the same optimizer: only that slices of one row are summed first, and that
    nothing but the rows used is read or written.

    Args:
      learning_rate: a float, a `LearningRateSchedule`, or a function without arguments.
      learning_rate_power: p, 0 or less; -0.5 is that of the paper.
      initial_accumulator_value: of n, 0 or more.
      l1, l2, beta: Keras's l1_regularization_strength, l2_regularization_strength and beta.
      weight_decay, clipnorm, clipvalue, global_clipnorm, name: as in `LazyAdam`, and so are further
        arguments of Keras's optimizers.

    Defaults: learning_rate=0.001, learning_rate_power=-0.5, initial_accumulator_value=0.1, l1=0.0,
    l2=0.0, beta=0.0.

    Raises: as `LazyAdam`.

    Numerics: as `LazyAdam`. State: two arrays [R, ...] like each variable. Cost: see
    `recops.ops.row_update`.

    Source: McMahan et al., Ad Click Prediction: a View from the Trenches, KDD 2013, algorithm 1;
    2 l2 where the paper has lambda_2, as in Keras.

    Example:
      >>> import tensorflow as tf
      >>> weights = tf.Variable(tf.zeros([3, 1]))
      >>> gradient = tf.IndexedSlices([[0.2], [2.0]], tf.constant([0, 2]), tf.constant([3, 1]))
      >>> _ = LazyFTRL(learning_rate=0.5, l1=1.0).apply_gradients([(gradient, weights)])
      >>> weights.numpy().round(3)
      array([[ 0.   ],
             [ 0.   ],
             [-0.247]], dtype=float32)
    """

    rule = "ftrl"

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1: float = 0.0,
        l2: float = 0.0,
        beta: float = 0.0,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "lazy_ftrl",
        **kwargs: Any,
    ) -> None:
        check_arguments("LazyFTRL", kwargs)
        super().__init__(
            learning_rate=learning_rate,
            learning_rate_power=learning_rate_power,
            initial_accumulator_value=initial_accumulator_value,
            l1_regularization_strength=l1,
            l2_regularization_strength=l2,
            beta=beta,
            weight_decay=weight_decay,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            name=name,
        )

    def _slots(self, index: int) -> list[Any]:
        return [self._accumulators[index], self._linears[index]]

    def _numbers(self) -> dict[str, Any]:
        return {
            "learning_rate_power": self.learning_rate_power,
            "l1": self.l1_regularization_strength,
            "l2": self.l2_regularization_strength,
            "beta": self.beta,
        }

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config["l1"] = config.pop("l1_regularization_strength")
        config["l2"] = config.pop("l2_regularization_strength")
        del config["l2_shrinkage_regularization_strength"]
        return config
