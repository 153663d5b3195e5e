"""Pairwise interactions by the native kernels: a row's fields and pairs never leave the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core import native


def _op(name: str) -> Any:
    """An op of one tensor whose gradient is the native op `name`Grad, of that tensor and dy."""

    @tf.custom_gradient
    def op(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        return native.call(name, x), lambda dy: native.call(f"{name}Grad", x, dy)

    return op


pairwise_inner = _op("PairwiseInner")
pairwise_hadamard = _op("PairwiseHadamard")
bi_interaction = _op("BiInteraction")
fm_interaction = _op("FmInteraction")
field_aware_interaction = _op("FieldAwareInteraction")
