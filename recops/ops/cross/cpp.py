"""The cross network with vector kernels, natively: each example is read once a direction."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core import native
from recops._core.numerics import twice
from recops.ops.cross import reference

_Tensors = list[tf.Tensor]


def why_not(op: str, x: tf.Tensor, kernels: _Tensors, biases: _Tensors) -> str | None:
    """The matrix form is left to XLA."""
    if kernels and kernels[0].shape.rank == 2:
        return (
            f"{op} with matrix kernels is matrix products of the whole batch, which TensorFlow "
            "runs at full rate; use backend 'xla' or 'auto'"
        )
    return None


def cross_network(x: tf.Tensor, kernels: _Tensors, biases: _Tensors) -> tf.Tensor:
    if not kernels:
        return tf.identity(x)
    return _network(x, tf.stack(kernels), tf.stack(biases))


def _formula(x: tf.Tensor, kernels: tf.Tensor, biases: tf.Tensor) -> tf.Tensor:
    return reference.cross_network(x, tf.unstack(kernels), tf.unstack(biases))


_gradient = twice(functools.partial(native.call, "CrossNetworkGrad"), _formula)


@tf.custom_gradient
def _network(
    x: tf.Tensor, kernels: tf.Tensor, biases: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
    return (
        native.call("CrossNetwork", x, kernels, biases),
        lambda dy: _gradient((x, kernels, biases), (), (dy,)),
    )
