"""Bilinear interaction by the native kernel: what a matrix turns never leaves the cache."""

from __future__ import annotations

import functools
from collections.abc import Callable

import tensorflow as tf

from recops._core import native
from recops._core.numerics import twice
from recops.ops.bilinear import reference

_KINDS = {"all": 0, "each": 1, "interaction": 2}


def bilinear_interaction(x: tf.Tensor, kernel: tf.Tensor, bilinear_type: str) -> tf.Tensor:
    return _op(bilinear_type)(x, kernel)


@functools.cache
def _op(bilinear_type: str) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    options = [_KINDS[bilinear_type]]
    backward = twice(
        functools.partial(native.call, "BilinearInteractionGrad", options=options),
        functools.partial(reference.bilinear_interaction, bilinear_type=bilinear_type),
    )

    @tf.custom_gradient
    def op(
        x: tf.Tensor, kernel: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], list[tf.Tensor]]]:
        out = native.call("BilinearInteraction", x, kernel, options=options)
        return out, lambda dy: backward((x, kernel), (), (dy,))

    return op
