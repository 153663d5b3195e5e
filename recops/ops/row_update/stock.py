"""What a careful Keras user writes for a row-sparse step today, and what Keras does by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from recops._core.compat import keras
from recops.ops.row_update.reference import move
from recops.ops.row_update.rules import RULES, scalars


def _unique_scatter(
    table: Any,
    slots: Sequence[Any],
    ids: tf.Tensor,
    values: tf.Tensor,
    rule: str,
    learning_rate: float,
    step: int = 1,
    weight_decay: float | None = None,
    catch_up: bool = False,
    **options: float,
) -> list[tf.Tensor] | None:
    """Slices merged as Keras 2 merged them, the rows gathered, moved, and scattered back."""
    rows, places = tf.unique(ids)
    g = tf.math.unsorted_segment_sum(values, places, tf.size(rows))
    arrays = [table, *slots]
    row, *kept = [tf.gather(array, rows) for array in arrays]
    numbers = scalars(
        rule, learning_rate, step, weight_decay, {**RULES[rule].options, **options}, catch_up
    )
    new = move(rule, row, kept, g, numbers, catch_up)
    if not isinstance(table, tf.Variable):
        return [
            tf.tensor_scatter_nd_update(array, rows[:, None], now)
            for array, now in zip(arrays, new)
        ]
    for array, now in zip(arrays, new):
        array.scatter_update(tf.IndexedSlices(now, rows))
    return None


# The optimizer of the table in work: it cannot be made inside a trace.
_optimizers: dict[Any, Any] = {}


class _Constant(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate in the table's dtype: Keras holds a number as float32."""

    def __init__(self, rate: float, dtype: Any) -> None:
        self._rate = tf.constant(rate, dtype)

    def __call__(self, step: Any) -> tf.Tensor:
        return self._rate


def _keras_adam(
    table: Any,
    slots: Sequence[Any],
    ids: tf.Tensor,
    values: tf.Tensor,
    rule: str,
    learning_rate: float,
    step: int = 1,
) -> list[tf.Tensor] | None:
    """Keras's Adam on the dense gradient, which is what makes repeated ids right there."""
    if not isinstance(table, tf.Variable):
        variables = [tf.Variable(array) for array in (table, *slots)]
        _keras_adam(variables[0], variables[1:], ids, values, rule, learning_rate, step)
        return [tf.convert_to_tensor(variable) for variable in variables]
    if table.ref() not in _optimizers:
        _optimizers.clear()
        optimizer = keras.optimizers.Adam(_Constant(learning_rate, table.dtype))
        optimizer.build([table])
        # Its moments are those of the case.
        optimizer._momentums, optimizer._velocities = [slots[0]], [slots[1]]
        _optimizers[table.ref()] = optimizer
    gradient = tf.math.unsorted_segment_sum(values, ids, table.shape[0])
    _optimizers[table.ref()].iterations.assign(step - 1)
    _optimizers[table.ref()].apply_gradients([(gradient, table)])
    return None


def _unique_sums(ids: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    rows, places = tf.unique(ids)
    count = tf.size(rows)
    first = tf.math.unsorted_segment_min(tf.range(tf.size(ids)), places, count)
    sums = tf.math.unsorted_segment_sum(values, places, count)
    return tf.scatter_nd(first[:, None], sums, tf.shape(values))


FORMS = {
    "row_update": {"unique_scatter": _unique_scatter, "keras_adam": _keras_adam},
    "row_sums": {"unique_segments": _unique_sums},
}

# tf.unique has no size that XLA could know.
GRAPH_ONLY = ("unique_scatter", "unique_segments")

# Keras moves every row whose momentum is not zero: the same step only from a fresh state. And not
# in float64, where the tests compare: it takes its betas through float32.
ONLY_FOR = {"keras_adam": lambda case: "fresh_criteo" in case.name}
