"""Outer product layer of a product-based neural network."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops._core import checks
from recops._core.dispatch import Room
from recops.ops.outer_product import cpp, reference, xla

_ROOM = Room("outer_product", ("outer_product",), reference, xla, cpp)


def outer_product(x: Any, kernel: Any, *, backend: str = "auto") -> tf.Tensor:
    """Weighted outer product of the summed fields (PNN's outer product layer, superposition).

        s[b] = sum_i x[b, i],   out[b, u] = sum_{d, e} kernel[u, d, e] * s[b, d] * s[b, e]

    Args:
      x: field embeddings [B, F, D], float16, bfloat16, float32 or float64; F >= 1, F and D static.
      kernel: one matrix a unit, [U, D, D], in the dtype of `x`.
      backend: "auto", "cpp", "xla" or "reference".

    Returns: [B, U] in the dtype of `x`.

    Raises: ValueError for another rank, size or dtype; BackendError when a named backend cannot
    run.

    Numerics: 16-bit inputs accumulate in float32. Cost: `xla` 2BUDD flops forward and twice that
    backward, one [B, D, D] tensor in each direction; `cpp` half the flops, by the kernel's
    symmetric part, and no such tensor. The backward keeps `x` and `kernel` alone.

    Source: Qu et al., Product-based Neural Networks, ICDM 2016, section III.C. Summing the fields
    first is exact: the outer products of all ordered pairs, i = j included, sum to s s^T.

    Example:
      >>> import recops
      >>> recops.ops.outer_product([[[1.0, 2.0], [3.0, 4.0]]], [[[1.0, 0.0], [0.0, 1.0]]]).numpy()
      array([[52.]], dtype=float32)
    """
    op = "outer_product"
    x = checks.fields(op, "x", x, minimum=1)
    dim = x.shape[2]
    kernel = checks.floats(op, "kernel", kernel, f"U {dim} {dim}", dtype=x.dtype)
    return _ROOM.call(op, x, kernel, backend=backend)
