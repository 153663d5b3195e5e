"""Attentional pooling of the pairs of fields."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops._core import checks
from recops._core.dispatch import Room
from recops.ops.attentional_pooling import cpp, plain, reference, xla

_ROOM = Room("attentional_pooling", ("attentional_pooling",), reference, xla, cpp, plain)


def attentional_pooling(
    x: Any, kernel: Any, bias: Any, projection: Any, *, backend: str = "auto"
) -> tuple[tf.Tensor, tf.Tensor]:
    """Attention over the pairs of fields (AFM; DeepCTR: AFMLayer, before its dropout and output).

        e[b, p(i, j)] = x[b, i] * x[b, j]   for i < j, row-major upper triangle
        weights[b] = softmax over p of  projection . relu(e[b, p] @ kernel + bias)
        pooled[b] = sum_p weights[b, p] * e[b, p]

    Args:
      x: field embeddings [B, F, D], float16, bfloat16, float32 or float64; F >= 2, F and D static.
      kernel: [D, A], in the dtype of `x`, A static: the width of the attention network.
      bias: [A].
      projection: [A].
      backend: "auto", "cpp", "xla" or "reference".

    Returns: (pooled [B, D], weights [B, P]) in the dtype of `x`, P = F(F-1)/2. Both have gradients.

    Raises: ValueError for another rank, size or dtype, or fewer than two fields; BackendError when
    a named backend cannot run.

    Numerics: 16-bit inputs compute in float32 throughout, the softmax subtracts its largest score.
    Cost: 2BP(D+1)A flops forward, twice that backward. The backward keeps the weights (in at least
    float32) and the inputs alone and forms products and hidden layer again. `xla` pools through the
    [B, F, F] matrix of the weights; the products and their gradient stand for a time, one
    [B, P, D] each. `cpp` holds none of it: a vector of rows at a time stays in the cache.

    Source: Xiao et al., Attentional Factorization Machines, IJCAI 2017, eq. 4 to 6.

    Example:
      >>> import recops
      >>> x = [[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]]
      >>> pooled, weights = recops.ops.attentional_pooling(x, [[0.0], [0.0]], [0.0], [1.0])
      >>> pooled.numpy().round(4), weights.numpy().round(4)
      (array([[ 7.6667, 14.6667]], dtype=float32), array([[0.3333, 0.3333, 0.3333]], dtype=float32))
    """
    op = "attentional_pooling"
    x = checks.fields(op, "x", x)
    kernel = checks.floats(op, "kernel", kernel, f"{x.shape[2]} A", dtype=x.dtype)
    width = checks.static(op, "kernel", kernel, 1, "A")
    bias = checks.floats(op, "bias", bias, str(width), dtype=x.dtype)
    projection = checks.floats(op, "projection", projection, str(width), dtype=x.dtype)
    return _ROOM.call(op, x, kernel, bias, projection, backend=backend)
