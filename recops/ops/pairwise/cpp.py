"""Pairwise interactions by the native kernels: a row's fields and pairs never leave the cache."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core import native
from recops._core.numerics import twice
from recops.ops.pairwise import reference


def _op(name: str, formula: Any) -> Any:
    """An op of one tensor whose gradient is the native op `name`Grad, of that tensor and dy."""
    backward = twice(functools.partial(native.call, f"{name}Grad"), formula)

    @tf.custom_gradient
    def op(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
        return native.call(name, x), lambda dy: backward((x,), (), (dy,))

    return op


pairwise_inner = _op("PairwiseInner", reference.pairwise_inner)
pairwise_hadamard = _op("PairwiseHadamard", reference.pairwise_hadamard)
bi_interaction = _op("BiInteraction", reference.bi_interaction)
fm_interaction = _op("FmInteraction", reference.fm_interaction)
field_aware_interaction = _op("FieldAwareInteraction", reference.field_aware_interaction)
