"""One step of an optimizer on the rows of a table that a batch used, and sums by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from recops._core import checks, compat
from recops._core.dispatch import Room
from recops.ops.row_update import cpp, reference, xla
from recops.ops.row_update.rules import LAST, RULES, scalars, slots_of

_ROOM = Room("row_update", ("row_update", "row_sums"), reference, xla, cpp)


def row_update(
    table: Any,
    slots: Sequence[Any],
    ids: Any,
    values: Any,
    *,
    rule: str,
    learning_rate: Any,
    step: Any = 1,
    weight_decay: float | None = None,
    catch_up: bool = False,
    backend: str = "auto",
    **options: Any,
) -> list[tf.Tensor] | None:
    """One step of an optimizer that moves only the rows of a table that have a gradient.

    With g[r] the sum of `values` over the places of row r in `ids`, for each such row:

        adam:             m += (g - m)(1 - beta_1)     v += (g^2 - v)(1 - beta_2)
                          row -= rate c m / (sqrt(v) + epsilon)
                          with c = sqrt(1 - beta_2^step) / (1 - beta_1^step)
        adagrad:          a += g^2                     row -= rate g / sqrt(a + epsilon)
        rowwise_adagrad:  a += mean(g^2)               row -= rate g / sqrt(a + epsilon)
        ftrl:             a' = a + g^2                 z += g - (a'^-p - a^-p) / rate row
                          row = (clip(z, -l1, l1) - z) / (a'^-p / rate + 2 l2 + beta / rate)

    Args:
      table: [R, ...], float16, bfloat16, float32 or float64. A variable is changed where it stands;
        of a tensor a changed copy is returned.
      slots: what the rule keeps, all variables or all tensors as the table is: of "adam" [m, v], of
        "adagrad" [a], of "ftrl" [a, z], in the shape and dtype of the table; of "rowwise_adagrad"
        [a] of shape [R]. With `catch_up` one more of shape [R], int64: the step of the last use.
      ids: [N], int32 or int64, in 0..R-1, in any order, as often as they come.
      values: [N, ...], the gradient of each place, in any float dtype.
      rule: "adam", "adagrad", "rowwise_adagrad" or "ftrl".
      learning_rate: a number, or a float tensor or variable without axes.
      step: number of this step from 1, for the bias correction of "adam"; a number or tensor.
      weight_decay: the used rows are first multiplied by 1 - learning_rate * weight_decay.
      catch_up: of "adam": the moments of a row first decay by the steps since its last use, as if
        its gradient had been 0 in them. A last use of 0 is none, and one that is not before `step`
        (a step count that was set back) is that of the step before.
      backend: "auto", "cpp", "xla" or "reference".
      **options: numbers of the rule: beta_1=0.9, beta_2=0.999, epsilon=1e-7; learning_rate_power=
        -0.5 (p), l1=0, l2=0, beta=0 of "ftrl".

    Defaults: step=1, catch_up=False.

    Returns: None for variables; for tensors the changed [table, *slots].

    Raises: ValueError for a wrong rule, option, rank, width or dtype; InvalidArgumentError that
    names an id without a row, and then nothing has changed. Inside jit_compile=True only `cpp` can
    raise; with the others, and in any graph for a GPU, the slices of such an id are dropped. It has
    no gradient.

    Numerics: gradients are summed, in the order of the batch with `cpp`, and rows moved in float32
    at least; what a step has but once, such as the bias correction, is worked out in float64. A
    gradient that is not finite goes into its own row, as in Keras, and into no other.

    Cost: the bytes of the rows used, read and written once, with `cpp` and `xla`; `reference` goes
    through the whole table.

    Source: Kingma & Ba, Adam, 2015; Duchi et al., Adagrad, 2011; McMahan et al., FTRL-Proximal,
    2013, in the form of Keras's own optimizers.

    Example:
      >>> import numpy as np, recops
      >>> table, sums = np.ones((3, 2), "float32"), np.zeros((3, 2), "float32")
      >>> moved, _ = recops.ops.row_update(
      ...     table, [sums], [2, 2], np.ones((2, 2), "float32"), rule="adagrad", learning_rate=0.5)
      >>> moved.numpy().round(3).tolist()
      [[1.0, 1.0], [1.0, 1.0], [0.5, 0.5]]
    """
    op = "row_update"
    found = RULES[checks.choice(op, "rule", rule, tuple(RULES))]
    for name in options:
        checks.choice(op, f"options of {rule!r}", name, tuple(found.options))
    if catch_up and rule != "adam":
        raise ValueError(f"{op}: catch_up needs the moments of rule 'adam', got rule {rule!r}")
    table = compat.variable(table)
    slots = [compat.variable(slot) for slot in slots]
    if not isinstance(table, tf.Variable):
        table = checks.floats(op, "table", table, None)
        slots = [tf.convert_to_tensor(slot) for slot in slots]
    table_dtype = tf.as_dtype(table.dtype)
    if table.shape.rank is None or table.shape.rank < 1:
        raise ValueError(f"{op}: table must be [R, ...], got {checks.describe(table)}")
    _check_slots(rule, catch_up, table, slots)
    ids = checks.ids(op, "ids", ids, "N")
    values = checks.floats(op, "values", values, None)
    wanted = ["N", *(checks.sizes(table, axis) for axis in range(1, table.shape.rank))]
    values = checks.shape(op, "values", tf.cast(values, table_dtype), " ".join(wanted))
    numbers = scalars(
        rule, learning_rate, step, weight_decay, {**found.options, **options}, catch_up
    )
    # A step, not a function: no tape looks into it.
    values, numbers = tf.stop_gradient(values), tf.stop_gradient(numbers)
    if not isinstance(table, tf.Variable):
        table = tf.stop_gradient(table)
        slots = [tf.stop_gradient(slot) for slot in slots]
    return _ROOM.call(op, table, slots, ids, values, numbers, rule, catch_up, backend=backend)


def _check_slots(rule: str, catch_up: bool, table: Any, slots: Sequence[Any]) -> None:
    names = slots_of(rule, catch_up)
    if len(slots) != len(names):
        raise ValueError(
            f"row_update: rule {rule!r} keeps {len(names)} slots ({', '.join(names)}), got "
            f"{len(slots)}"
        )
    for name, slot in zip(names, slots):
        if isinstance(slot, tf.Variable) != isinstance(table, tf.Variable):
            raise ValueError(
                f"row_update: table and slots must all be variables or all tensors, got a "
                f"{type(table).__name__} and for {name!r} a {type(slot).__name__}"
            )
        shape = table.shape if name in RULES[rule].slots else table.shape[:1]
        dtype = tf.int64 if name == LAST else tf.as_dtype(table.dtype)
        if not slot.shape.is_compatible_with(shape) or tf.as_dtype(slot.dtype) != dtype:
            raise ValueError(
                f"row_update: slot {name!r} must be {dtype.name} {list(shape)}, got "
                f"{tf.as_dtype(slot.dtype).name} {checks.describe(slot)}"
            )


def row_sums(ids: Any, values: Any, *, backend: str = "auto") -> tf.Tensor:
    """Slices summed by their id: the sum at the first place of each id, zero at its others.

        out[n] = sum_{k: ids[k] = ids[n]} values[k]  if n is the first place of ids[n], else 0

    So (ids, out) is the same sparse gradient as (ids, values), and its squares add up to those of
    the dense gradient: for norms and clipping.

    Args:
      ids: [N], int32 or int64, 0 or more.
      values: [N, ...], float16, bfloat16, float32 or float64.
      backend: "auto", "cpp", "xla" or "reference".

    Returns: [N, ...] in the dtype of `values`.

    Raises: ValueError for a wrong rank or dtype; BackendError when a named backend cannot run.

    Numerics: sums in float32 at least, with `cpp` in the order of the batch. Cost: a sort of the
    ids, and the values read and written once.

    Source: the merging of slices in the optimizers of Keras 2.15, 2023.

    Example:
      >>> import recops
      >>> recops.ops.row_sums([5, 2, 5], [[1.0], [2.0], [3.0]]).numpy().tolist()
      [[4.0], [2.0], [0.0]]
    """
    op = "row_sums"
    ids = checks.ids(op, "ids", ids, "N")
    values = checks.floats(op, "values", values, None)
    if values.shape.rank is None or values.shape.rank < 1:
        raise ValueError(f"{op}: values must be [N, ...], got {checks.describe(values)}")
    wanted = [checks.sizes(ids, 0), *("ABCDEFGH"[: values.shape.rank - 1])]
    checks.shape(op, "values", values, " ".join(wanted))
    return _ROOM.call(op, ids, values, backend=backend)
