"""Adam that moves the rows in the batch alone."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops._core import compat
from recops._core.compat import keras
from recops.optimizers.row_sparse import RowSparse, check_arguments


@compat.serializable
class LazyAdam(RowSparse, keras.optimizers.Adam):
    """Adam for embedding tables: its step costs what the rows in the batch cost.

        m += (g - m)(1 - beta_1)        v += (g^2 - v)(1 - beta_2)        of the rows used
        row -= learning_rate sqrt(1 - beta_2^t) / (1 - beta_1^t) m / (sqrt(v) + epsilon)

    On a dense gradient this is `keras.optimizers.Adam`. Of a sparse one (`tf.IndexedSlices`, what
    a lookup gives) the slices of one row are summed first to g; then m, v and the row move, of the
    rows in the batch alone, with the bias correction of the global step t. Keras's Adam moves every
    row whose momentum is not zero, and reads and writes the whole table and both moments.

    Args:
      learning_rate: a float, a `LearningRateSchedule`, or a function without arguments.
      beta_1, beta_2, epsilon: as in Keras's Adam.
      catch_up: a row's moments first decay by the steps in which it was not used, as if its
        gradient had been 0 in them. They are then those of Keras's Adam, and a row that is used
        rarely does not step along a gradient that is long past; the row itself does not move while
        it is not used. Costs 8 bytes a row.
      weight_decay: decoupled; of a table, once a use, of the rows used.
      clipnorm, clipvalue, global_clipnorm: as in Keras, on the summed rows; at most one of them.
      name: of the optimizer.

    Further arguments of Keras's optimizers are taken at their defaults.

    Defaults: learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-07, catch_up=False.

    Raises: ValueError for an argument that would need the whole table in each step (`use_ema`,
    `gradient_accumulation_steps`, `loss_scale_factor`, `amsgrad`), and in the first step for a
    table with a constraint; InvalidArgumentError for a gradient of a row that does not exist.

    Numerics: a gradient that is not finite is applied to its own row, as Keras applies it; to skip
    such steps wrap this in `keras.optimizers.LossScaleOptimizer`. State: two arrays [R, ...] like
    each variable, made in `build`, in its dtype. Cost: see `recops.ops.row_update`.

    Source: Kingma & Ba, Adam, 2015, with the lazy update of TensorFlow Addons' LazyAdam.

    Example:
      >>> import tensorflow as tf
      >>> table = tf.Variable(tf.ones([4, 2]))
      >>> gradient = tf.IndexedSlices(tf.ones([2, 2]), tf.constant([1, 1]), tf.constant([4, 2]))
      >>> _ = LazyAdam(learning_rate=0.5).apply_gradients([(gradient, table)])
      >>> table.numpy().round(3).tolist()
      [[1.0, 1.0], [0.5, 0.5], [1.0, 1.0], [1.0, 1.0]]
    """

    rule = "adam"

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        catch_up: bool = False,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "lazy_adam",
        **kwargs: Any,
    ) -> None:
        check_arguments("LazyAdam", kwargs)
        super().__init__(
            learning_rate=learning_rate,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            weight_decay=weight_decay,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            name=name,
        )
        self.catch_up = catch_up
        self._last_uses: list[Any] = []

    def build(self, variables: Any) -> None:
        """Make the state; called once, by Keras."""
        super().build(variables)
        if self.catch_up and not self._last_uses:
            self._last_uses = [
                self.add_variable(
                    shape=variable.shape[:1],
                    dtype="int64",
                    initializer="zeros",
                    name=f"last_use_{place}",
                )
                for place, variable in enumerate(variables)
            ]

    def _slots(self, index: int) -> list[Any]:
        kept = [self._momentums[index], self._velocities[index]]
        return [*kept, self._last_uses[index]] if self.catch_up else kept

    def _numbers(self) -> dict[str, Any]:
        return {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}

    def _dense_step(self, index: int, gradient: Any, variable: Any, *rate: Any) -> None:
        if self.catch_up:
            self._catch_up(index, variable)
        super()._dense_step(index, gradient, variable, *rate)

    def _catch_up(self, index: int, variable: Any) -> None:
        """A dense gradient uses all rows: those that were left out in sparse steps fade first."""
        last = compat.variable(self._last_uses[index])
        step = tf.cast(self.iterations + 1, last.dtype)
        missed = tf.where(last > 0, tf.maximum(step - 1 - last, 0), 0)
        missed = tf.reshape(
            missed, [-1, *[1] * (len(variable.shape) - 1)] if variable.shape else []
        )
        for slot, beta in zip(self._slots(index), (self.beta_1, self.beta_2)):
            slot.assign(slot * tf.cast(beta ** tf.cast(missed, tf.float64), variable.dtype))
        last.assign(tf.fill(tf.shape(last), step))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "catch_up": self.catch_up}
