"""The recurrence with all input projections in one GEMM and its backward through time by hand.

Forward and backward are one XLA loop each, of a known number of steps. A step of the forward writes
one row of a record: the gates, and the state it began with. The backward reads a row and writes the
gradients of the gates' arguments. The weight gradients, and what of a step does not follow from its
gradient by element, are one GEMM over all steps each, outside the loop.

The record and the gradients are all that is kept for all steps: what a step writes and reads again
is where a GPU's time goes, a kernel for each buffer and its memory. Of 16-bit inputs all that
enters a product has 16 bits, and the state is float32. The record is bfloat16 for bfloat16, and
float32 for float16: rounded, as the gradients made of it are, it costs a single step more than the
error rule allows.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core import device, products
from recops._core.numerics import HALF, jit, jit_forward, twice, widened
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
    # The outputs are read from the record: there is no cheaper program without one.
    op = _op(dataclasses.replace(options, record=True))
    return op(x, kernel, recurrent_kernel, bias, attention, mask, initial_state)


@functools.cache
def _op(options: Options) -> Callable[..., Any]:
    forward = jit_forward(functools.partial(_forward, options=options))
    formula = functools.partial(reference.dynamic_gru, options=options)
    backward = twice(jit(functools.partial(_backward, options=options)), formula)

    @tf.custom_gradient
    def op(*args: tf.Tensor) -> tuple[Any, Callable[..., Any]]:
        outputs, last, record = forward(*args)

        def grad(doutputs: tf.Tensor, dlast: tf.Tensor) -> tuple[Any, ...]:
            *found, dinitial = backward(args, (record,), (doutputs, dlast))
            return *found, None, dinitial

        return (outputs, last), grad

    return op


def _dtypes(narrow: tf.DType) -> tuple[tf.DType, tf.DType]:
    """What is multiplied on this device, and what the record is of, for inputs of a dtype.

    XLA for a CPU would widen the weights in every step.
    """
    wide = tf.float32 if narrow in HALF else narrow
    return device.form(gpu=(narrow, products.stored(narrow)), cpu=(wide, narrow))


def _time_first(tensor: tf.Tensor, options: Options) -> tf.Tensor:
    """[B, T, n] -> [T, B, n], in the order of processing."""
    tensor = tf.transpose(tensor, [1, 0, 2])
    return tf.reverse(tensor, [0]) if options.go_backwards else tensor


def _batch_first(tensor: tf.Tensor, options: Options) -> tf.Tensor:
    """The inverse of `_time_first`."""
    tensor = tf.reverse(tensor, [0]) if options.go_backwards else tensor
    return tf.transpose(tensor, [1, 0, 2])


def _inputs(
    x: tf.Tensor, attention: tf.Tensor, mask: tf.Tensor, options: Options
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Inputs (scaled by the score for AIGRU), scores and mask, time first, zero under the mask.

    The scores are of at least 32 bits, the inputs of the dtype of `x`.
    """
    mask = _time_first(mask[..., None], options)
    zero = tf.zeros([], x.dtype)
    x = tf.where(mask, _time_first(x, options), zero)
    (attention,) = widened(attention)
    attention = tf.where(
        mask, _time_first(attention[..., None], options), tf.zeros([], attention.dtype)
    )
    if options.gru_type == "aigru":
        x = tf.cast(attention * widened(x)[0], x.dtype)
    return x, attention, mask


def _shown(mask: tf.Tensor, options: Options) -> tf.Tensor:
    """Where the output is the state: at kept steps, or from the first kept step on."""
    if options.zero_output_for_mask:
        return mask
    return tf.cumsum(tf.cast(mask, tf.int32), axis=0) > 0


def _flat_matmul(
    a: tf.Tensor, b: tf.Tensor, transpose_b: bool = False, dtype: tf.DType | None = None
) -> tf.Tensor:
    """[T, B, n] x [n, m] -> [T, B, m] as one GEMM."""
    flat = products.matmul(tf.reshape(a, [-1, a.shape[2]]), b, transpose_b=transpose_b, dtype=dtype)
    shape = tf.shape(a)
    return tf.reshape(flat, [shape[0], shape[1], flat.shape[1]])


def _weight_gradient(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """[T, B, n], [T, B, m] -> [n, m], summed over steps and rows."""
    return products.matmul(
        tf.reshape(a, [-1, a.shape[2]]), tf.reshape(b, [-1, b.shape[2]]), transpose_a=True
    )


def _buffer(*shape: Any, dtype: tf.DType) -> tf.TensorArray:
    """Room for the results of all steps. Made from a tensor, XLA knows its shape from the start."""
    return tf.TensorArray(dtype, size=shape[0]).unstack(tf.zeros(shape, dtype))


def _forward(
    x: tf.Tensor,
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor,
    attention: tf.Tensor,
    mask: tf.Tensor,
    initial_state: tf.Tensor,
    *,
    options: Options,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Outputs, last state, and the record [T, B, 4H]: z, r, candidate, state before the step."""
    narrow, units = x.dtype, recurrent_kernel.shape[0]
    factor, kept = _dtypes(narrow)
    x, kernel, recurrent_kernel = (tf.cast(t, factor) for t in (x, kernel, recurrent_kernel))
    bias, initial_state = widened(bias, initial_state)
    inputs, attention, mask = _inputs(x, attention, mask, options)
    # With reset_after the candidate's recurrent bias is inside the reset product.
    outer = bias[0] + (_gates_only(bias[1], units) if options.reset_after else bias[1])
    projected = _flat_matmul(inputs, kernel) + outer  # [T, B, 3H]
    projected = tf.cast(projected, products.stored(factor))
    u_gates, u_candidate = recurrent_kernel[:, : 2 * units], recurrent_kernel[:, 2 * units :]
    b_candidate = bias[1, 2 * units :]
    steps, batch = tf.shape(x)[1], tf.shape(x)[0]

    def step(
        t: tf.Tensor, states: tuple[tf.Tensor, ...], record: tf.TensorArray
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, ...], tf.TensorArray]:
        h, state = states[0], states[-1]
        p = tf.cast(tf.gather(projected, t), h.dtype)
        if options.reset_after:
            product = products.matmul(state, recurrent_kernel)  # [B, 3H]: one GEMM a step is enough
            zr = tf.sigmoid(p[:, : 2 * units] + product[:, : 2 * units])
            inner = zr[:, units:] * (product[:, 2 * units :] + b_candidate)
        else:
            zr = tf.sigmoid(p[:, : 2 * units] + products.matmul(state, u_gates))
            inner = products.matmul(tf.cast(zr[:, units:] * h, factor), u_candidate)
        candidate = tf.tanh(p[:, 2 * units :] + inner)
        keep = options.keep(zr[:, :units], tf.gather(attention, t))
        after = tf.where(tf.gather(mask, t), keep * h + (1 - keep) * candidate, h)
        row = tf.cast(tf.concat([zr, candidate, h], axis=1), kept)
        return t + 1, (after, tf.cast(after, factor))[: len(states)], record.write(t, row)

    # Rounded by the step that makes it, not by a kernel of its own in the next.
    states = (initial_state, tf.cast(initial_state, factor))[: 1 + (factor in HALF)]
    start = (tf.constant(0), states, _buffer(steps, batch, 4 * units, dtype=kept))
    _, (last, *_), record = tf.while_loop(
        lambda t, *_: t < steps, step, start, maximum_iterations=steps
    )
    record, last = record.stack(), tf.cast(last, narrow)
    states_before = tf.cast(record[1:, :, 3 * units :], narrow)
    after = tf.concat([states_before, last[None]], axis=0)[:steps]
    outputs = tf.transpose(tf.where(_shown(mask, options), after, tf.zeros([], narrow)), [1, 0, 2])
    outputs.set_shape([*x.shape[:2], units])
    return outputs, last, record


def _gates_only(bias: tf.Tensor, units: int) -> tf.Tensor:
    return tf.concat([bias[: 2 * units], tf.zeros_like(bias[2 * units :])], axis=0)


def _backward(
    x: tf.Tensor,
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor,
    attention: tf.Tensor,
    mask: tf.Tensor,
    initial_state: tf.Tensor,
    record: tf.Tensor,
    doutputs: tf.Tensor,
    dlast: tf.Tensor,
    *,
    options: Options,
) -> tuple[tf.Tensor, ...]:
    """Gradients of x, kernel, recurrent kernel, bias, attention and initial state."""
    narrow, units = x.dtype, recurrent_kernel.shape[0]
    factor, _ = _dtypes(narrow)
    x, kernel, recurrent_kernel = (tf.cast(t, factor) for t in (x, kernel, recurrent_kernel))
    bias, dlast = widened(bias, dlast)
    inputs, scores, kept = _inputs(x, attention, mask, options)
    shown = _shown(kept, options)
    zero = tf.zeros([], dlast.dtype)
    u_gates, u_candidate = recurrent_kernel[:, : 2 * units], recurrent_kernel[:, 2 * units :]
    r, before = record[:, :, units : 2 * units], tf.cast(record[:, :, 3 * units :], factor)
    if options.reset_after:
        product = _flat_matmul(before, u_candidate) + bias[1, 2 * units :]
        product = tf.cast(product, products.stored(factor))
    steps, batch = tf.shape(x)[1], tf.shape(x)[0]

    def step(
        n: tf.Tensor, dh: tf.Tensor, dpre: tf.TensorArray, *dscores: tf.TensorArray
    ) -> tuple[Any, ...]:
        t = steps - 1 - n
        z, r, candidate, h = tf.split(tf.cast(tf.gather(record, t), dh.dtype), 4, axis=1)
        a, now = tf.gather(scores, t), tf.gather(kept, t)
        arrived = tf.cast(tf.gather(doutputs, t, axis=1), dh.dtype)
        dh = dh + tf.where(tf.gather(shown, t), arrived, zero)
        keep, (dkeep_dz, dkeep_da) = options.keep(z, a), options.keep_gradient(z, a)
        dnew = tf.where(now, dh, zero)
        dkeep = dnew * (h - candidate)
        dz = dkeep * dkeep_dz * z * (1 - z)
        dc = dnew * (1 - keep) * (1 - tf.square(candidate))
        if options.reset_after:
            dr = dc * tf.cast(tf.gather(product, t), dh.dtype) * r * (1 - r)
            through = tf.cast(tf.concat([dz, dr, dc * r], axis=1), factor)
            dbefore = products.matmul(through, recurrent_kernel, transpose_b=True)
        else:
            dreset = products.matmul(tf.cast(dc, factor), u_candidate, transpose_b=True)
            dr = dreset * h * r * (1 - r)
            through = tf.cast(tf.concat([dz, dr], axis=1), factor)
            dbefore = dreset * r + products.matmul(through, u_gates, transpose_b=True)
        dbefore += tf.where(now, keep * dh, dh)
        written = [array.write(t, tf.cast(dkeep * dkeep_da, factor)) for array in dscores]
        row = tf.cast(tf.concat([dz, dr, dc], axis=1), factor)
        return n + 1, dbefore, dpre.write(t, row), *written

    # Only a score that takes part in the gates has a gradient from the states.
    dscores = [_buffer(steps, batch, units, dtype=factor)] if options.attentive else []
    start = (tf.constant(0), dlast, _buffer(steps, batch, 3 * units, dtype=factor), *dscores)
    _, dinitial, dpre, *dscores = tf.while_loop(
        lambda n, *_: n < steps, step, start, maximum_iterations=steps
    )
    dpre = dpre.stack()

    def reset(tensor: tf.Tensor) -> tf.Tensor:
        wide, gate = widened(tensor, r)
        return tf.cast(wide * gate, factor)

    dgates, dcandidate = dpre[:, :, : 2 * units], dpre[:, :, 2 * units :]
    dinner = reset(dcandidate) if options.reset_after else dcandidate
    source = before if options.reset_after else reset(before)
    drecurrent = tf.concat(
        [_weight_gradient(before, dgates), _weight_gradient(source, dinner)], axis=1
    )
    wide = widened(dpre, tf.concat([dgates, dinner], axis=2))
    dbias_outer, dbias_inner = (tf.reduce_sum(each, axis=[0, 1]) for each in wide)
    dattention = tf.zeros_like(scores)
    if options.attentive:
        dattention = tf.reduce_sum(widened(dscores[0].stack())[0], axis=2, keepdims=True)
    scaled = options.gru_type == "aigru"
    # [T, B, I], at once in the dtype of `x` where nothing is done with it any more.
    dx = _flat_matmul(dpre, kernel, transpose_b=True, dtype=None if scaled else factor)
    if scaled:
        plain = tf.where(kept, *widened(_time_first(x, options)), zero)
        dattention = tf.reduce_sum(dx * plain, axis=2, keepdims=True)
        dx *= scores
    gradients = (
        _batch_first(dx, options),
        _weight_gradient(inputs, dpre),
        drecurrent,
        tf.stack([dbias_outer, dbias_inner]),
        _batch_first(dattention, options)[..., 0],
        dinitial,
    )
    gradients[0].set_shape(x.shape)
    gradients[4].set_shape(attention.shape)
    return tuple(tf.cast(gradient, narrow) for gradient in gradients)
