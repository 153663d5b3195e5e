"""The recurrence with all input projections in one GEMM and its backward through time by hand.

Forward and backward are one XLA loop each, of a known number of steps. The forward keeps the gates
and the states, time first; what else the backward needs (the products of the state with the
recurrent kernel) is one GEMM over all steps, outside its loop. So are all weight gradients.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from recops._core.numerics import accumulate, jit, jit_forward
from recops.ops.dynamic_gru.options import Options


class _Steps(NamedTuple):
    """What a step reads, time first."""

    projected: tf.Tensor  # [T, B, 3H]
    attention: tf.Tensor  # [T, B, 1]
    mask: tf.Tensor  # [T, B, 1]
    shown: tf.Tensor  # [T, B, 1]: the output is the state, not zero


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
    forward = jit_forward(accumulate(functools.partial(_forward, options=options)))
    backward = jit(accumulate(functools.partial(_backward, options=options)))

    @tf.custom_gradient
    def op(*args: tf.Tensor) -> tuple[Any, Callable[..., Any]]:
        outputs, last, gates, states = forward(*args)

        def grad(doutputs: tf.Tensor, dlast: tf.Tensor) -> tuple[Any, ...]:
            dx, dkernel, drecurrent, dbias, dattention, dinitial = backward(
                *args, gates, states, doutputs, dlast
            )
            return dx, dkernel, drecurrent, dbias, dattention, None, dinitial

        return (outputs, last), grad

    return op


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
    """Inputs (scaled by the score for AIGRU), scores and mask, time first, zero under the mask."""
    mask = _time_first(mask[..., None], options)
    zero = tf.zeros([], x.dtype)
    x = tf.where(mask, _time_first(x, options), zero)
    attention = tf.where(mask, _time_first(attention[..., None], options), zero)
    return (attention * x if options.gru_type == "aigru" else x), attention, mask


def _shown(mask: tf.Tensor, options: Options) -> tf.Tensor:
    """Where the output is the state: at kept steps, or from the first kept step on."""
    if options.zero_output_for_mask:
        return mask
    return tf.cumsum(tf.cast(mask, tf.int32), axis=0) > 0


def _flat_matmul(a: tf.Tensor, b: tf.Tensor, transpose_b: bool = False) -> tf.Tensor:
    """[T, B, n] x [n, m] -> [T, B, m] as one GEMM."""
    flat = tf.matmul(tf.reshape(a, [-1, a.shape[2]]), b, transpose_b=transpose_b)
    shape = tf.shape(a)
    return tf.reshape(flat, [shape[0], shape[1], flat.shape[1]])


def _weight_gradient(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """[T, B, n], [T, B, m] -> [n, m], summed over steps and rows."""
    return tf.matmul(
        tf.reshape(a, [-1, a.shape[2]]), tf.reshape(b, [-1, b.shape[2]]), transpose_a=True
    )


def _at(tensor: tf.Tensor, t: tf.Tensor) -> tf.Tensor:
    return tf.gather(tensor, t)


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
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Outputs, last state, gates (z, r, candidate) [T, B, 3H] and states [T, B, H]."""
    units = recurrent_kernel.shape[0]
    inputs, attention, mask = _inputs(x, attention, mask, options)
    # With reset_after the candidate's recurrent bias is inside the reset product.
    outer = bias[0] + (_gates_only(bias[1], units) if options.reset_after else bias[1])
    projected = _flat_matmul(inputs, kernel) + outer  # [T, B, 3H]
    u_gates, u_candidate = recurrent_kernel[:, : 2 * units], recurrent_kernel[:, 2 * units :]
    b_candidate = bias[1, 2 * units :]
    steps, batch = tf.shape(x)[1], tf.shape(x)[0]

    def step(
        t: tf.Tensor, h: tf.Tensor, gates: tf.TensorArray, states: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray, tf.TensorArray]:
        p = _at(projected, t)
        if options.reset_after:
            product = tf.matmul(h, recurrent_kernel)  # [B, 3H]: one GEMM a step is enough
            zr = tf.sigmoid(p[:, : 2 * units] + product[:, : 2 * units])
            inner = zr[:, units:] * (product[:, 2 * units :] + b_candidate)
        else:
            zr = tf.sigmoid(p[:, : 2 * units] + tf.matmul(h, u_gates))
            inner = tf.matmul(zr[:, units:] * h, u_candidate)
        candidate = tf.tanh(p[:, 2 * units :] + inner)
        keep = options.keep(zr[:, :units], _at(attention, t))
        after = tf.where(_at(mask, t), keep * h + (1 - keep) * candidate, h)
        gates = gates.write(t, tf.concat([zr, candidate], axis=1))
        return t + 1, after, gates, states.write(t, after)

    start = (
        tf.constant(0),
        initial_state,
        _buffer(steps, batch, 3 * units, dtype=x.dtype),
        _buffer(steps, batch, units, dtype=x.dtype),
    )
    _, last, gates, states = tf.while_loop(
        lambda t, *_: t < steps, step, start, maximum_iterations=steps
    )
    gates, states = gates.stack(), states.stack()
    outputs = tf.where(_shown(mask, options), states, tf.zeros([], x.dtype))
    return tf.transpose(outputs, [1, 0, 2]), last, gates, states


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
    gates: tf.Tensor,
    states: tf.Tensor,
    doutputs: tf.Tensor,
    dlast: tf.Tensor,
    *,
    options: Options,
) -> tuple[tf.Tensor, ...]:
    """Gradients of x, kernel, recurrent kernel, bias, attention and initial state."""
    units = recurrent_kernel.shape[0]
    inputs, scores, kept = _inputs(x, attention, mask, options)
    zero = tf.zeros([], x.dtype)
    dshown = tf.where(_shown(kept, options), tf.transpose(doutputs, [1, 0, 2]), zero)
    before = tf.concat([initial_state[None], states[:-1]], axis=0)  # [T, B, H]
    z, r, candidate = tf.split(gates, 3, axis=2)
    dkeep_dz, dkeep_da = options.keep_gradient(z, scores)
    keep = options.keep(z, scores)
    # Everything in a step that does not depend on the incoming gradient is computed here, at once.
    to_candidate = tf.where(kept, (1 - keep) * (1 - tf.square(candidate)), zero)
    to_z = tf.where(kept, (before - candidate) * dkeep_dz * z * (1 - z), zero)
    to_h = tf.where(kept, keep, tf.ones([], x.dtype))
    if options.reset_after:
        product = _flat_matmul(before, recurrent_kernel[:, 2 * units :]) + bias[1, 2 * units :]
        to_r = product * r * (1 - r)
    else:
        to_r = before * r * (1 - r)
    factors = tf.concat([to_z, to_r, to_candidate, to_h, r], axis=2)  # [T, B, 5H]
    u_gates, u_candidate = recurrent_kernel[:, : 2 * units], recurrent_kernel[:, 2 * units :]
    steps, batch = tf.shape(x)[1], tf.shape(x)[0]

    def step(
        n: tf.Tensor, dh: tf.Tensor, dpre: tf.TensorArray, *darrived: tf.TensorArray
    ) -> tuple[Any, ...]:
        t = steps - 1 - n
        to_z, to_r, to_candidate, to_h, r = tf.split(_at(factors, t), 5, axis=1)
        dh = dh + _at(dshown, t)
        dz, dc = dh * to_z, dh * to_candidate
        if options.reset_after:
            dr = dc * to_r
            d = tf.concat([dz, dr, dc], axis=1)
            through = tf.concat([dz, dr, dc * r], axis=1)
            after = dh * to_h + tf.matmul(through, recurrent_kernel, transpose_b=True)
        else:
            dreset = tf.matmul(dc, u_candidate, transpose_b=True)
            dr = dreset * to_r
            d = tf.concat([dz, dr, dc], axis=1)
            after = dh * to_h + dreset * r + tf.matmul(d[:, : 2 * units], u_gates, transpose_b=True)
        return n + 1, after, dpre.write(t, d), *(array.write(t, dh) for array in darrived)

    # Only a score that takes part in the gates has a gradient from the states.
    arrived = [_buffer(steps, batch, units, dtype=x.dtype)] if options.attentive else []
    start = (tf.constant(0), dlast, _buffer(steps, batch, 3 * units, dtype=x.dtype), *arrived)
    _, dinitial, dpre, *arrived = tf.while_loop(
        lambda n, *_: n < steps, step, start, maximum_iterations=steps
    )
    dpre = dpre.stack()

    dgates, dcandidate = dpre[:, :, : 2 * units], dpre[:, :, 2 * units :]
    dinner = dcandidate * r if options.reset_after else dcandidate
    source = before if options.reset_after else r * before
    drecurrent = tf.concat(
        [_weight_gradient(before, dgates), _weight_gradient(source, dinner)], axis=1
    )
    dbias_outer = tf.reduce_sum(dpre, axis=[0, 1])
    dbias_inner = tf.reduce_sum(tf.concat([dgates, dinner], axis=2), axis=[0, 1])
    dinputs = _flat_matmul(dpre, kernel, transpose_b=True)  # [T, B, I]
    dattention = tf.zeros_like(scores)
    if options.attentive:
        dkeep = tf.where(kept, arrived[0].stack() * (before - candidate), zero)
        dattention = tf.reduce_sum(dkeep * dkeep_da, axis=2, keepdims=True)
    dx = dinputs
    if options.gru_type == "aigru":
        plain = tf.where(kept, _time_first(x, options), zero)
        dattention = tf.reduce_sum(dinputs * plain, axis=2, keepdims=True)
        dx = dinputs * scores
    return (
        _batch_first(dx, options),
        _weight_gradient(inputs, dpre),
        drecurrent,
        tf.stack([dbias_outer, dbias_inner]),
        _batch_first(dattention, options)[..., 0],
        dinitial,
    )
