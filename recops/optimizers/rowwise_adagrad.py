"""Adagrad with one accumulator a row."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops._core import compat
from recops._core.compat import keras
from recops.optimizers.lazy_adagrad import LazyAdagrad


@compat.serializable
class RowwiseAdagrad(LazyAdagrad):
    """Adagrad with one accumulator a row, the least state that an adaptive step can have.

        a += mean(g^2) over the row        row -= learning_rate g / sqrt(a + epsilon)

    The same of dense gradients, whose rows are those of the variable's first axis; of a variable of
    one axis it is Adagrad.

    Args:
      learning_rate: a float, a `LearningRateSchedule`, or a function without arguments.
      initial_accumulator_value, epsilon: as in Keras's Adagrad.
      weight_decay, clipnorm, clipvalue, global_clipnorm, name: as in `LazyAdam`, and so are further
        arguments of Keras's optimizers.

    Defaults: learning_rate=0.001, initial_accumulator_value=0.1, epsilon=1e-07.

    Raises: as `LazyAdam`.

    Numerics: as `LazyAdam`. State: one number a row, [R]. Cost: see `recops.ops.row_update`.

    Source: Mudigere et al., Software-Hardware Co-design for Fast and Scalable Training of Deep
    Learning Recommendation Models, ISCA 2022, section 4.1.2; epsilon under the root, as in Keras.

    Example:
      >>> import tensorflow as tf
      >>> table = tf.Variable(tf.ones([3, 2]))
      >>> gradient = tf.IndexedSlices([[0.0, 2.0]], tf.constant([2]), tf.constant([3, 2]))
      >>> optimizer = RowwiseAdagrad(learning_rate=0.5, initial_accumulator_value=0.0)
      >>> _ = optimizer.apply_gradients([(gradient, table)])
      >>> table.numpy().round(3)
      array([[1.   , 1.   ],
             [1.   , 1.   ],
             [1.   , 0.293]], dtype=float32)
    """

    rule = "rowwise_adagrad"

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "rowwise_adagrad",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            learning_rate,
            initial_accumulator_value,
            epsilon,
            weight_decay,
            clipnorm,
            clipvalue,
            global_clipnorm,
            name,
            **kwargs,
        )
        self._accumulators: list[Any] = []

    def build(self, variables: Any) -> None:
        """Make the state; called once, by Keras."""
        if self._accumulators:
            return
        # What Adagrad's own would make is as large as the variables.
        super(keras.optimizers.Adagrad, self).build(variables)
        start = keras.initializers.Constant(self.initial_accumulator_value)
        self._accumulators = [
            self.add_variable(
                shape=variable.shape[:1],
                dtype=variable.dtype,
                initializer=start,
                name=f"accumulator_{place}",
            )
            for place, variable in enumerate(variables)
        ]
        compat.mark_built(self)

    def _dense_step(self, index: int, gradient: Any, variable: Any, *rate: Any) -> None:
        learning_rate = tf.cast(rate[0] if rate else self.learning_rate, variable.dtype)
        accumulator = compat.variable(self._accumulators[index])
        gradient = tf.cast(gradient, variable.dtype)
        axes = list(range(1, len(variable.shape)))
        accumulator.assign_add(tf.reduce_mean(tf.square(gradient), axis=axes))
        total = tf.reshape(accumulator, [-1, *[1] * len(axes)]) if axes else accumulator
        variable.assign_sub(learning_rate * gradient / tf.sqrt(total + self.epsilon))
