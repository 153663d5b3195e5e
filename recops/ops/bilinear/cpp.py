"""Bilinear interaction by the native kernel: what a matrix turns never leaves the cache."""

from __future__ import annotations

import functools
from collections.abc import Callable

import tensorflow as tf

from recops._core import native

_KINDS = {"all": 0, "each": 1, "interaction": 2}


def bilinear_interaction(x: tf.Tensor, kernel: tf.Tensor, bilinear_type: str) -> tf.Tensor:
    return _op(bilinear_type)(x, kernel)


@functools.cache
def _op(bilinear_type: str) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    options = [_KINDS[bilinear_type]]

    @tf.custom_gradient
    def op(
        x: tf.Tensor, kernel: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, ...]]]:
        def grad(dy: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return native.call("BilinearInteractionGrad", x, kernel, dy, options=options)

        return native.call("BilinearInteraction", x, kernel, options=options), grad

    return op
