"""GRU, AIGRU, AGRU and AUGRU, step by step, from Cho 2014, Zhou 2019 and Keras's conventions."""

from __future__ import annotations

import numpy as np


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def dynamic_gru(
    x: np.ndarray,
    kernel: np.ndarray,
    recurrent_kernel: np.ndarray,
    bias: np.ndarray | None = None,
    attention: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    initial_state: np.ndarray | None = None,
    gru_type: str = "gru",
    augru_form: str = "paper",
    reset_after: bool = False,
    go_backwards: bool = False,
    zero_output_for_mask: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    batch, steps, _ = x.shape
    units = recurrent_kernel.shape[0]
    wz, wr, wh = np.split(kernel, 3, axis=1)
    uz, ur, uh = np.split(recurrent_kernel, 3, axis=1)
    bias = np.zeros((2, 3 * units)) if bias is None else bias
    if bias.ndim == 1:
        bias = np.stack([bias, np.zeros_like(bias)])
    (bz, br, bh), (cz, cr, ch) = np.split(bias[0], 3), np.split(bias[1], 3)
    final = np.zeros((batch, units))
    outputs = np.zeros((batch, steps, units))
    for b in range(batch):
        h = np.zeros(units) if initial_state is None else initial_state[b]
        shown = np.zeros(units)
        order = range(steps)[::-1] if go_backwards else range(steps)
        for place, t in enumerate(order):
            if mask is not None and not mask[b, t]:
                outputs[b, place] = 0 if zero_output_for_mask else shown
                continue
            a = None if attention is None else attention[b, t]
            i = x[b, t] * a if gru_type == "aigru" else x[b, t]
            z = _sigmoid(i @ wz + bz + h @ uz + cz)
            r = _sigmoid(i @ wr + br + h @ ur + cr)
            if reset_after:
                c = np.tanh(i @ wh + bh + r * (h @ uh + ch))
            else:
                c = np.tanh(i @ wh + bh + (r * h) @ uh + ch)
            if gru_type == "agru":
                h = (1 - a) * h + a * c
            elif gru_type == "augru" and augru_form == "paper":
                u = a * (1 - z)
                h = (1 - u) * h + u * c
            elif gru_type == "augru":
                u = (1 - a) * z
                h = u * h + (1 - u) * c
            else:
                h = z * h + (1 - z) * c
            shown = outputs[b, place] = h
        final[b] = h
    return outputs, final


ORACLES = {"dynamic_gru": dynamic_gru}
