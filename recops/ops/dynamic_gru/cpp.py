"""The recurrence by the native kernels: a block of rows goes through its kept steps in cache."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core import native
from recops._core.numerics import twice
from recops.ops.dynamic_gru import reference
from recops.ops.dynamic_gru.options import Options


def dynamic_gru(
    x: tf.Tensor,
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor,
    attention: tf.Tensor,
    mask: tf.Tensor,
    initial_state: tf.Tensor,
    options: Options,
) -> tuple[tf.Tensor, tf.Tensor]:
    return _op(options)(x, kernel, recurrent_kernel, bias, attention, mask, initial_state)


@functools.cache
def _op(options: Options) -> Callable[..., Any]:
    numbers, recorded = (_numbers(options, record) for record in (options.record, True))
    backward = twice(
        functools.partial(native.call, "DynamicGruGrad", options=recorded),
        functools.partial(reference.dynamic_gru, options=options),
    )

    @tf.custom_gradient
    def op(*args: tf.Tensor) -> tuple[Any, Callable[..., Any]]:
        outputs, last, record = native.call("DynamicGru", *args, options=numbers)

        def grad(doutputs: tf.Tensor, dlast: tf.Tensor) -> tuple[Any, ...]:
            states, gates = outputs, record
            if not options.record:
                states, _, gates = native.call("DynamicGru", *args, options=recorded)
            *found, dinitial = backward(args, (states, gates), (doutputs, dlast))
            return *found, None, dinitial

        return (outputs, last), grad

    return op


def _numbers(options: Options, record: bool) -> tuple[int, ...]:
    """The options as the kernels know them; the first says how the score shapes the update."""
    share = 0
    if options.gru_type == "agru":
        share = 1
    elif options.gru_type == "augru":
        share = 2 if options.augru_form == "paper" else 3
    flags = (options.reset_after, options.go_backwards, options.zero_output_for_mask, record)
    return (share, int(options.gru_type == "aigru"), *map(int, flags))
