"""Dense layer: product, bias and activation as one op."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops._core import checks
from recops._core.activations import ACTIVATIONS
from recops._core.dispatch import Room
from recops.ops.dense import cpp, reference, xla

_ROOM = Room("dense", ("dense",), reference, xla, cpp)


def dense(
    x: Any,
    kernel: Any,
    bias: Any = None,
    activation: str | None = None,
    *,
    backend: str = "auto",
) -> tf.Tensor:
    """Dense layer with its bias and activation (`keras.layers.Dense`).

        out[..., u] = activation(sum_i x[..., i] * kernel[i, u] + bias[u])

    Args:
      x: [..., N], float16, bfloat16, float32 or float64; rank 1 at least, N static.
      kernel: [N, U], dtype of `x`, U static.
      bias: [U], dtype of `x`; None adds nothing.
      activation: "relu", "sigmoid", "tanh" or "linear" (also None).
      backend: "auto", "cpp", "xla" or "reference".

    Returns: [..., U] in the dtype of `x`.

    Raises: ValueError for another rank, size or dtype, or an unknown activation; BackendError when
    a named backend cannot run.

    Numerics: 16-bit products are summed in float32, and so are the gradients of kernel and bias
    over the rows; bias and activation are float32, and the result is rounded once. On tiles and by
    pairs the gradient of the sums is rounded to bfloat16 once.

    Cost: 2RNU flops forward and twice that backward, R the rows. `cpp` multiplies bfloat16 on AMX
    tiles, by AVX-512 pairs or as float32, whichever the processor is fastest at, in graphs and
    under jit alike; XLA's own CPU products are of float32. The backward keeps `x`, `kernel` and
    the result.

    Source: Glorot et al., Deep Sparse Rectifier Neural Networks, AISTATS 2011, for "relu".

    Example:
      >>> import recops
      >>> recops.ops.dense([[1.0, 2.0]], [[1.0, -1.0], [1.0, -1.0]], activation="relu").numpy()
      array([[3., 0.]], dtype=float32)
    """
    op = "dense"
    x = checks.floats(op, "x", x, None)
    if not x.shape.rank:
        raise ValueError(f"{op}: x must have shape [..., N], got {checks.describe(x)}")
    width = checks.static(op, "x", x, x.shape.rank - 1, "N")
    kernel = checks.floats(op, "kernel", kernel, f"{width} U", x.dtype)
    units = checks.static(op, "kernel", kernel, 1, "U")
    if bias is not None:
        bias = checks.floats(op, "bias", bias, f"{units}", x.dtype)
    name = "linear" if activation is None else activation
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ValueError(
            f"{op}: activation must be one of {', '.join(ACTIVATIONS)} or None, got {name!r}; "
            "apply another one to the result"
        )
    rows = tf.reshape(x, [-1, width])
    out = _ROOM.call(op, rows, kernel, bias, name, backend=backend)
    static = [*x.shape[:-1], units]
    known = [tf.shape(x)[i] if size is None else size for i, size in enumerate(static)]
    return tf.ensure_shape(tf.reshape(out, known), static)
