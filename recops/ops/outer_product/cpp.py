"""The outer product layer natively, with its kernel folded to the half that differs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core import native
from recops._core.numerics import twice
from recops.ops.outer_product import reference

_gradient = twice(functools.partial(native.call, "OuterProductGrad"), reference.outer_product)


@tf.custom_gradient
def outer_product(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
    return (
        native.call("OuterProduct", x, kernel),
        lambda dy: _gradient((x, kernel), (), (dy,)),
    )
