"""The cross network of DCN and DCNv2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from recops._core import checks
from recops._core.dispatch import Room
from recops.ops.cross import cpp, reference, xla

_ROOM = Room("cross", ("cross_network",), reference, xla, cpp)


def cross_network(
    x: Any, kernels: Sequence[Any], biases: Sequence[Any], *, backend: str = "auto"
) -> tf.Tensor:
    """Stacked cross layers (DeepCTR: CrossNet; keras-rs: FeatureCross).

        vector:  x_{l+1} = x_0 * (x_l . w_l) + b_l + x_l
        matrix:  x_{l+1} = x_0 * (x_l @ W_l + b_l) + x_l

    Args:
      x: [B, n], float16, bfloat16, float32 or float64; n static.
      kernels: one a layer, all [n] (DCN) or all [n, n] (DCNv2), dtype of `x`. None: returns `x`.
      biases: one [n] a layer.
      backend: "auto", "cpp", "xla" or "reference".

    Returns: [B, n] in the dtype of `x`.

    Raises: ValueError for a wrong rank, width, dtype or number of kernels; BackendError when a
    named backend cannot run.

    Numerics: 16-bit inputs accumulate in float32, through all layers. Cost: the outer product
    x_0 x_l^T is never formed. `xla` in vector form takes one GEMM [B, n] x [n, L] and one pass
    over `x` for all layers, and the backward keeps `x` alone; in matrix form it takes L GEMMs
    forward and 2L backward, which keeps each layer's state and product in the dtype of `x`. `cpp`
    takes vector kernels alone, reads an example once a direction, and keeps `x` alone.

    Source: Wang et al., Deep & Cross Network, ADKDD 2017, eq. 3; DCN V2, WWW 2021, eq. 1.

    Example:
      >>> import recops
      >>> recops.ops.cross_network([[1.0, 2.0]], [[0.5, 1.0]], [[0.0, 1.0]]).numpy()
      array([[3.5, 8. ]], dtype=float32)
    """
    op = "cross_network"
    x = checks.floats(op, "x", x, "B n")
    width = checks.static(op, "x", x, 1, "n")
    if len(kernels) != len(biases):
        raise ValueError(
            f"{op}: kernels and biases must be equally many, one of each a layer, got "
            f"{len(kernels)} kernels and {len(biases)} biases"
        )
    kernels = [checks.floats(op, f"kernels[{i}]", k, None, x.dtype) for i, k in enumerate(kernels)]
    for i, kernel in enumerate(kernels):
        axes = f"{width} {width}" if kernels[0].shape.rank == 2 else f"{width}"
        checks.shape(op, f"kernels[{i}]", kernel, axes)
    biases = [
        checks.floats(op, f"biases[{i}]", b, f"{width}", x.dtype) for i, b in enumerate(biases)
    ]
    return _ROOM.call(op, x, kernels, biases, backend=backend)
