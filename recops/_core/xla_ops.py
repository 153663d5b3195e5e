"""XLA's own ops, which TensorFlow has under no public name: products, and a barrier.

They exist inside programs that XLA compiles and nowhere else.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import tensorflow as tf

from recops._core import compat


@functools.cache
def _generated() -> Any:
    """TensorFlow's module of them, or None where it has none."""
    try:
        return importlib.import_module("tensorflow.compiler.tf2xla.ops.gen_xla_ops")
    except ImportError:
        return None


def can(name: str) -> bool:
    """Whether the op of a name, as "dot_v2", can be called here: TensorFlow has it, for XLA."""
    return compat.tracing_for_xla() and hasattr(_generated(), f"xla_{name}")


def dot(
    a: tf.Tensor,
    b: tf.Tensor,
    batch: tuple[list[int], list[int]],
    contracted: tuple[list[int], list[int]],
    dtype: tf.DType,
) -> tf.Tensor:
    """A product with a result of `dtype`: axes of the batch, then free ones of `a`, then of `b`."""
    return _generated().xla_dot_v2(
        a,
        b,
        dimension_numbers=_dimension_numbers(*contracted, *batch),
        precision_config=b"",
        preferred_element_type=dtype,
    )


def barrier(*tensors: tf.Tensor) -> list[tf.Tensor]:
    """The same tensors, of which XLA does not see what they are.

    What is computed of them it takes for new, and does not merge with the same of the originals.
    """
    if not can("optimization_barrier"):
        return list(tensors)
    return list(_generated().xla_optimization_barrier(list(tensors)))


def _dimension_numbers(*fields: list[int]) -> bytes:
    """A serialized `xla.DotDimensionNumbers`: contracted axes of either side, then batch axes.

    By hand, since its Python module goes by other names in other versions: four fields of packed
    integers, all below 128.
    """
    return b"".join(
        bytes([number << 3 | 2, len(axes), *axes])
        for number, axes in enumerate(fields, start=1)
        if axes
    )
