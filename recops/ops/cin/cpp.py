"""The compressed interaction network by the native kernel: products are made and used in cache."""

from __future__ import annotations

import functools
from collections.abc import Callable

import tensorflow as tf

from recops._core import native
from recops._core.numerics import twice
from recops.ops.cin import reference
from recops.ops.cin.reference import stacked


def compressed_interaction(
    x0: tf.Tensor, xk: tf.Tensor, kernel: tf.Tensor, itself: bool
) -> tf.Tensor:
    return _of_fields(x0, kernel) if itself else _of_maps(x0, xk, kernel)


cin = functools.partial(stacked, compressed_interaction)


_maps_gradient = twice(
    functools.partial(native.call, "CompressedInteractionGrad", options=[0]),
    functools.partial(reference.compressed_interaction, itself=False),
)


@tf.custom_gradient
def _of_maps(
    x0: tf.Tensor, xk: tf.Tensor, kernel: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], list[tf.Tensor]]]:
    out = native.call("CompressedInteraction", x0, xk, kernel, options=[0])
    return out, lambda dy: _maps_gradient((x0, xk, kernel), (), (dy,))


def _fields_backward(x: tf.Tensor, kernel: tf.Tensor, dy: tf.Tensor) -> list[tf.Tensor]:
    dx, _, dkernel = native.call("CompressedInteractionGrad", x, x, kernel, dy, options=[1])
    return [dx, dkernel]


_fields_gradient = twice(
    _fields_backward, lambda x, kernel: reference.compressed_interaction(x, x, kernel, True)
)


@tf.custom_gradient
def _of_fields(
    x: tf.Tensor, kernel: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], list[tf.Tensor]]]:
    out = native.call("CompressedInteraction", x, x, kernel, options=[1])
    return out, lambda dy: _fields_gradient((x, kernel), (), (dy,))
