"""The GRU over a sequence, with attention in its input or its gates."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops._core import checks
from recops._core.dispatch import Room
from recops.ops.dynamic_gru import cpp, plain, reference, xla
from recops.ops.dynamic_gru.options import AUGRU_FORMS, GRU_TYPES, Options

_ROOM = Room("dynamic_gru", ("dynamic_gru",), reference, xla, cpp, plain)


def dynamic_gru(
    x: Any,
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any = None,
    attention: Any = None,
    mask: Any = None,
    initial_state: Any = None,
    gru_type: str = "gru",
    augru_form: str = "paper",
    reset_after: bool = False,
    go_backwards: bool = False,
    zero_output_for_mask: bool = False,
    *,
    backend: str = "auto",
) -> tuple[tf.Tensor, tf.Tensor]:
    """GRU, AIGRU, AGRU or AUGRU over a sequence (Keras: GRU; DeepCTR: DynamicGRU).

        z = sigmoid(x W_z + h U_z + b_z)      r = sigmoid(x W_r + h U_r + b_r)
        c = tanh(x W_h + (r * h) U_h + b_h)   reset_after: tanh(x W_h + b_h + r * (h U_h + b'_h))

        gru:    h' = z h + (1 - z) c          aigru: the same, of a x in place of x
        agru:   h' = (1 - a) h + a c
        augru, "paper":    u = a (1 - z),  h' = (1 - u) h + u c     (a = 1 is GRU, a = 0 keeps h)
        augru, "alibaba":  u = (1 - a) z,  h' = u h + (1 - u) c     (a = 0 is GRU, a = 1 gives c)

    Args:
      x: [B, T, I], float16, bfloat16, float32 or float64; I static, B and T may be unknown.
      kernel: [I, 3H] in Keras's gate order z, r, h, where z keeps the old state.
      recurrent_kernel: [H, 3H].
      bias: [3H], or [2, 3H] (of the input, of the state) with reset_after; None is zero.
      attention: [B, T] scores a, meant to be in [0, 1] (others are taken as they are, and the
        state is then no average); needed by all types but "gru".
      mask: [B, T] bool, True = keep, in any pattern; a masked step copies the state.
      initial_state: [B, H]; None is zero.
      gru_type, augru_form, reset_after: the formula, see above.
      go_backwards: process the last step first; outputs stand in the order of processing.
      zero_output_for_mask: the output of a masked step is 0, not the last output again.
      backend: "auto", "cpp", "xla" or "reference".

    Defaults: gru_type="gru", augru_form="paper", reset_after=False, go_backwards=False,
    zero_output_for_mask=False.

    Returns: (outputs [B, T, H], last state [B, H]) in the dtype of `x`. Before the first kept step
    outputs are 0, whatever the initial state, as in Keras.

    Raises: ValueError for a wrong rank, width, dtype or option, or scores that are missing or not
    used; BackendError when a named backend cannot run.

    Numerics: for 16-bit inputs gates and state are float32 in the loop, and stored in 16 bit for
    the backward (on a GPU those of bfloat16 alone). What is under the mask, NaN included, changes
    neither output nor gradient. Cost: 6BTH(I + H) flops; `cpp` spends none on masked steps and
    keeps the gates, 3BTH numbers (in a layer called with training=False none); `xla` makes the
    input projections and all weight gradients one GEMM each and keeps gates and states, 4BTH
    numbers; `reference` keeps a graph a step.

    Source: Cho et al., EMNLP 2014; Zhou et al., Deep Interest Evolution Network, AAAI 2019, eq. 7-9
    ("paper"); "alibaba" is the form of the authors' code.

    Example:
      >>> import recops, numpy as np
      >>> x, w, u = np.ones((1, 2, 1)), np.zeros((1, 6)), np.zeros((2, 6))
      >>> outputs, last = recops.ops.dynamic_gru(x, w, u, initial_state=np.ones((1, 2)))
      >>> outputs.numpy().tolist()
      [[[0.5, 0.5], [0.25, 0.25]]]
    """
    options = Options(gru_type, augru_form, reset_after, go_backwards, zero_output_for_mask)
    return recurrence(
        x, kernel, recurrent_kernel, bias, attention, mask, initial_state, options, backend=backend
    )


def recurrence(
    x: Any,
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any,
    attention: Any,
    mask: Any,
    initial_state: Any,
    options: Options,
    *,
    backend: str = "auto",
) -> tuple[tf.Tensor, tf.Tensor]:
    """`dynamic_gru` for a caller that may know that nobody will ask for a gradient."""
    op = "dynamic_gru"
    x = checks.floats(op, "x", x, "B T I")
    width = checks.static(op, "x", x, 2, "I")
    recurrent = checks.floats(op, "recurrent_kernel", recurrent_kernel, "H 3H", x.dtype)
    units = checks.static(op, "recurrent_kernel", recurrent, 0, "H")
    checks.shape(op, "recurrent_kernel", recurrent, f"{units} {3 * units}")
    kernel = checks.floats(op, "kernel", kernel, f"{width} {3 * units}", x.dtype)
    checks.choice(op, "gru_type", options.gru_type, GRU_TYPES)
    checks.choice(op, "augru_form", options.augru_form, AUGRU_FORMS)
    batch, steps = tf.shape(x)[0], tf.shape(x)[1]
    if bias is None:
        bias = tf.zeros([2, 3 * units], x.dtype)
    else:
        axes = f"2 {3 * units}" if options.reset_after else f"{3 * units}"
        bias = checks.floats(op, "bias", bias, axes, x.dtype)
        bias = bias if options.reset_after else tf.stack([bias, tf.zeros_like(bias)])
    if (attention is None) != (options.gru_type == "gru"):
        raise ValueError(
            f"{op}: attention [B, T] is needed by aigru, agru and augru and not used by gru, got "
            f"gru_type {options.gru_type!r} {'without' if attention is None else 'with'} attention"
        )
    if attention is None:
        attention = tf.zeros([batch, steps], x.dtype)
    attention = checks.floats(op, "attention", attention, "B T", x.dtype)
    mask = (
        tf.ones([batch, steps], tf.bool) if mask is None else checks.mask(op, "mask", mask, "B T")
    )
    for name, given in (("attention", attention), ("mask", mask)):
        checks.shape(op, name, given, checks.sizes(x, 0, 1))
    if initial_state is None:
        initial_state = tf.zeros([batch, units], x.dtype)
    initial_state = checks.floats(
        op, "initial_state", initial_state, f"{checks.sizes(x, 0)} {units}", x.dtype
    )
    return _ROOM.call(
        op, x, kernel, recurrent, bias, attention, mask, initial_state, options, backend=backend
    )
