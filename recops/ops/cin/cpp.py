"""The compressed interaction network by the native kernel: products are made and used in cache."""

from __future__ import annotations

import functools
from collections.abc import Callable

import tensorflow as tf

from recops._core import native
from recops.ops.cin.reference import stacked


def compressed_interaction(
    x0: tf.Tensor, xk: tf.Tensor, kernel: tf.Tensor, itself: bool
) -> tf.Tensor:
    return _of_fields(x0, kernel) if itself else _of_maps(x0, xk, kernel)


cin = functools.partial(stacked, compressed_interaction)


@tf.custom_gradient
def _of_maps(
    x0: tf.Tensor, xk: tf.Tensor, kernel: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, ...]]]:
    def grad(dy: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return native.call("CompressedInteractionGrad", x0, xk, kernel, dy, options=[0])

    return native.call("CompressedInteraction", x0, xk, kernel, options=[0]), grad


@tf.custom_gradient
def _of_fields(
    x: tf.Tensor, kernel: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, ...]]]:
    def grad(dy: tf.Tensor) -> tuple[tf.Tensor, ...]:
        dx, _, dkernel = native.call("CompressedInteractionGrad", x, x, kernel, dy, options=[1])
        return dx, dkernel

    return native.call("CompressedInteraction", x, x, kernel, options=[1]), grad
