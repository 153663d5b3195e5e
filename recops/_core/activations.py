"""The activations of the unit, each with its derivative as a function of its own output.

So the backward needs what the forward made and not also what went in. Those whose derivative needs
the input, or that have weights or statistics of their own, stand in the layer.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

_Function = Callable[[tf.Tensor], tf.Tensor]

ACTIVATIONS: dict[str, tuple[_Function, _Function]] = {
    "sigmoid": (tf.sigmoid, lambda y: y * (1 - y)),
    "relu": (tf.nn.relu, lambda y: tf.cast(y > 0, y.dtype)),
    "tanh": (tf.tanh, lambda y: 1 - y * y),
    "linear": (tf.identity, tf.ones_like),
}
