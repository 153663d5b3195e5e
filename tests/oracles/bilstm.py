"""LSTMs read from both ends, step by step: Hochreiter 1997 with the forget gate of Gers 2000."""

from __future__ import annotations

from typing import Any

import numpy as np


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm(
    x: np.ndarray, kernel: Any, recurrent_kernel: Any, bias: Any, mask: np.ndarray
) -> np.ndarray:
    """Hochreiter & Schmidhuber with a forget gate, gates in Keras order i, f, c, o."""
    batch, steps, _ = x.shape
    h = c = np.zeros((batch, recurrent_kernel.shape[0]))
    outputs = []
    for t in range(steps):
        at = np.where(mask[:, t, None], x[:, t], 0) @ kernel + h @ recurrent_kernel + bias
        i, f, g, o = np.split(at, 4, axis=1)
        after = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        shown = sigmoid(o) * np.tanh(after)
        kept = mask[:, t, None]
        h, c = np.where(kept, shown, h), np.where(kept, after, c)
        outputs.append(np.where(kept, shown, 0))
    return np.stack(outputs, axis=1)


def stacks(layer: Any, x: np.ndarray, mask: np.ndarray | None = None) -> list[np.ndarray]:
    """Both directions of a BiLSTM, the backward one on the reversed sequence."""
    mask = np.ones(x.shape[:2], bool) if mask is None else mask
    results = []
    for stack, turn in ((layer.forward, slice(None)), (layer.backward, slice(None, None, -1))):
        y = x[:, turn]
        for i, rnn in enumerate(stack):
            out = lstm(y, *(np.asarray(w, np.float64) for w in rnn.get_weights()), mask[:, turn])
            y = y + out if i >= layer.layers - layer.res_layers else out
        results.append(np.where(mask[:, turn, None], y, 0)[:, turn])
    return results
