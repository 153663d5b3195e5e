"""Adagrad that moves the rows in the batch alone."""

from __future__ import annotations

from typing import Any

from recops._core import compat
from recops._core.compat import keras
from recops.optimizers.row_sparse import RowSparse, check_arguments


@compat.serializable
class LazyAdagrad(RowSparse, keras.optimizers.Adagrad):
    """Adagrad for embedding tables: its step costs what the rows in the batch cost.

        a += g^2        row -= learning_rate g / sqrt(a + epsilon)        of the rows used

    On a dense gradient this is `keras.optimizers.Adagrad`. Adagrad does not move a row without a
    gradient, so this is the same optimizer: only that slices of one row are summed first, and that
    nothing but the rows used is read or written.

    Args:
      learning_rate: a float, a `LearningRateSchedule`, or a function without arguments.
      initial_accumulator_value, epsilon: as in Keras's Adagrad.
      weight_decay, clipnorm, clipvalue, global_clipnorm, name: as in `LazyAdam`, and so are further
        arguments of Keras's optimizers.

    Defaults: learning_rate=0.001, initial_accumulator_value=0.1, epsilon=1e-07.

    Raises: as `LazyAdam`.

    Numerics: as `LazyAdam`. State: one array [R, ...] like each variable. Cost: see
    `recops.ops.row_update`.

    Source: Duchi et al., Adaptive Subgradient Methods, JMLR 2011.

    Example:
      >>> import tensorflow as tf
      >>> table = tf.Variable(tf.ones([3, 2]))
      >>> gradient = tf.IndexedSlices(tf.ones([1, 2]), tf.constant([2]), tf.constant([3, 2]))
      >>> optimizer = LazyAdagrad(learning_rate=0.5, initial_accumulator_value=0.0)
      >>> _ = optimizer.apply_gradients([(gradient, table)])
      >>> table.numpy().round(3).tolist()
      [[1.0, 1.0], [1.0, 1.0], [0.5, 0.5]]
    """

    rule = "adagrad"

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "lazy_adagrad",
        **kwargs: Any,
    ) -> None:
        check_arguments(type(self).__name__, kwargs)
        super().__init__(
            learning_rate=learning_rate,
            initial_accumulator_value=initial_accumulator_value,
            epsilon=epsilon,
            weight_decay=weight_decay,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            name=name,
        )

    def _slots(self, index: int) -> list[Any]:
        return [self._accumulators[index]]

    def _numbers(self) -> dict[str, Any]:
        return {"epsilon": self.epsilon}
