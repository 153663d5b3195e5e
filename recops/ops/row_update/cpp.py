"""The update by the native kernel: ids sorted in bins, rows moved where they stand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf

from recops._core import native

# Bytes of a variable whose pages a processor's own tables of them no longer hold.
_LONG = 2**25


def row_update(
    table: Any,
    slots: Sequence[Any],
    ids: tf.Tensor,
    values: tf.Tensor,
    scalars: tf.Tensor,
    rule: str,
    catch_up: bool,
) -> list[tf.Tensor] | None:
    name = "RowUpdate" + rule.title().replace("_", "") + ("CatchUp" if catch_up else "")
    arrays = [table, *slots]
    if not isinstance(table, tf.Variable):
        return list(native.call(name, *arrays, ids, values, scalars))
    if not (tf.executing_eagerly() or tf.distribute.has_strategy()):
        _in_large_pages(arrays)
    native.call(f"{name}Variable", *(array.handle for array in arrays), ids, values, scalars)
    return None


def row_sums(ids: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    return native.call("RowSums", ids, values)[0]


def _in_large_pages(variables: Iterable[Any]) -> None:
    """Move long variables into large pages: a step then takes half the time.

    A hint to the system while a step is traced; where it cannot follow it nothing changes.
    """
    with tf.init_scope():
        if not tf.executing_eagerly():
            return
        for variable in variables:
            size = tf.as_dtype(variable.dtype).size * variable.shape.num_elements()
            if size >= _LONG:
                native.call("LargePagesVariable", variable.handle)


@tf.RegisterGradient("Recops>RowSums")
def _sums_gradient(op: Any, dy: tf.Tensor, _: Any) -> list[Any]:
    return [None, tf.gather(dy, op.outputs[1])]
