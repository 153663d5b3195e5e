"""The recurrence as the papers write it: one step of a loop a time step, differentiated by TF."""

from __future__ import annotations

import tensorflow as tf

from recops._core.numerics import accumulate
from recops.ops.dynamic_gru.options import Options


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
    steps = tf.shape(x)[1]
    # What is under the mask must not even be multiplied by zero: it may be NaN.
    x = tf.where(mask[..., None], x, tf.zeros([], x.dtype))
    attention = tf.where(mask, attention, tf.zeros([], x.dtype))

    def step(
        t: tf.Tensor, h: tf.Tensor, shown: tf.Tensor, outputs: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.TensorArray]:
        now = steps - 1 - t if options.go_backwards else t
        a, kept = tf.gather(attention, now, axis=1)[:, None], tf.gather(mask, now, axis=1)[:, None]
        i = tf.gather(x, now, axis=1)
        if options.gru_type == "aigru":
            i = a * i
        xz, xr, xh = tf.split(tf.matmul(i, kernel) + bias[0], 3, axis=1)
        uz, ur, uh = tf.split(recurrent_kernel, 3, axis=1)
        cz, cr, ch = tf.split(bias[1], 3)
        z = tf.sigmoid(xz + tf.matmul(h, uz) + cz)
        r = tf.sigmoid(xr + tf.matmul(h, ur) + cr)
        if options.reset_after:
            candidate = tf.tanh(xh + r * (tf.matmul(h, uh) + ch))
        else:
            candidate = tf.tanh(xh + tf.matmul(r * h, uh) + ch)
        keep = options.keep(z, a)
        after = keep * h + (1 - keep) * candidate
        shown = tf.where(kept, after, tf.zeros_like(h) if options.zero_output_for_mask else shown)
        return t + 1, tf.where(kept, after, h), shown, outputs.write(t, shown)

    outputs = tf.TensorArray(x.dtype, size=steps, element_shape=initial_state.shape)
    start = (tf.constant(0), initial_state, tf.zeros_like(initial_state), outputs)
    _, last, _, outputs = tf.while_loop(
        lambda t, *_: t < steps, step, start, maximum_iterations=steps
    )
    shown = tf.transpose(outputs.stack(), [1, 0, 2])
    shown.set_shape([*x.shape[:2], initial_state.shape[1]])
    return shown, last
