"""The recurrence of TensorFlow's own ops with few of them a step, for programs that are served.

All input projections are one GEMM before the loop. So is what the mask does: under it the update
gate is 1 and the score 0, by which every type keeps its state as it is.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from recops._core.numerics import accumulate
from recops.ops.dynamic_gru.options import Options

# Its sigmoid is 1 in float32 and float64.
_SHUT = 1e4


@accumulate
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
    units, steps = recurrent_kernel.shape[0], x.shape[1]
    if options.go_backwards:
        x, attention, mask = (tf.reverse(value, [1]) for value in (x, attention, mask))
    kept = mask[..., None]  # [B, T, 1]
    zero = tf.zeros([], x.dtype)
    x = tf.where(kept, x, zero)
    scores = tf.where(kept, attention[..., None], zero)
    if options.gru_type == "aigru":
        x = scores * x
    of_gates, of_candidate = tf.split(bias[1], [2 * units, units])
    # With reset_after the candidate's is inside the reset product.
    inner = tf.zeros_like(of_candidate) if options.reset_after else of_candidate
    outer = bias[0] + tf.concat([of_gates, inner], axis=0)
    projected = tf.tensordot(x, kernel, 1) + outer  # [B, T, 3H]
    z, r, candidate = tf.split(projected, 3, axis=2)
    gates = tf.concat([tf.where(kept, z, _SHUT), r], axis=2)  # [B, T, 2H]
    step = _step(recurrent_kernel, of_candidate, options)
    parts = (gates, candidate, scores) if options.attentive else (gates, candidate)
    outputs, last = _loop(step, initial_state, parts)
    outputs = tf.ensure_shape(outputs, [None, steps, units])
    if options.zero_output_for_mask:
        shown = kept
    else:
        shown = tf.cumsum(tf.cast(kept, tf.int32), axis=1) > 0
    return tf.where(shown, outputs, zero), last


def _step(
    recurrent_kernel: tf.Tensor, inner_bias: tf.Tensor, options: Options
) -> Callable[..., tf.Tensor]:
    """(state, gates [B, 2H], candidate [B, H], score [B, 1] of those that have one) -> state."""
    units = recurrent_kernel.shape[0]
    of_gates, of_candidate = tf.split(recurrent_kernel, [2 * units, units], axis=1)

    def step(h: tf.Tensor, gates: tf.Tensor, candidate: tf.Tensor, *score: tf.Tensor) -> tf.Tensor:
        z, r = tf.split(tf.sigmoid(gates + tf.matmul(h, of_gates)), 2, axis=1)
        if options.reset_after:
            inner = r * (tf.matmul(h, of_candidate) + inner_bias)
        else:
            inner = tf.matmul(r * h, of_candidate)
        c = tf.tanh(candidate + inner)
        keep = options.keep(z, *score) if score else z
        return keep * h + (1 - keep) * c

    return step


def _loop(
    step: Callable[..., tf.Tensor], h: tf.Tensor, parts: tuple[tf.Tensor, ...]
) -> tuple[tf.Tensor, tf.Tensor]:
    steps = tf.shape(parts[0])[1]
    first = [tf.transpose(part, [1, 0, 2]) for part in parts]
    outputs = tf.TensorArray(h.dtype, size=steps, element_shape=h.shape)

    def body(t: tf.Tensor, h: tf.Tensor, outputs: tf.TensorArray) -> tuple[tf.Tensor, ...]:
        h = step(h, *(tf.gather(part, t) for part in first))
        return t + 1, h, outputs.write(t, h)

    _, last, outputs = tf.while_loop(lambda t, *_: t < steps, body, (tf.constant(0), h, outputs))
    return tf.transpose(outputs.stack(), [1, 0, 2]), last
