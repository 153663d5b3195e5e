"""The outer product layer natively, with its kernel folded to the half that differs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core import native


@tf.custom_gradient
def outer_product(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
    return (
        native.call("OuterProduct", x, kernel),
        lambda dy: tuple(native.call("OuterProductGrad", x, kernel, dy)),
    )
