"""Pairwise interactions: inner and Hadamard products, bi-interaction, FM and field-aware FM."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops._core import checks
from recops._core.dispatch import Room
from recops.ops.pairwise import cpp, plain, reference, xla

_ROOM = Room(
    "pairwise",
    (
        "pairwise_inner",
        "pairwise_hadamard",
        "bi_interaction",
        "fm_interaction",
        "field_aware_interaction",
    ),
    reference,
    xla,
    cpp,
    plain,
)


def pairwise_inner(x: Any, *, backend: str = "auto") -> tf.Tensor:
    """Inner product of every pair of fields (DeepCTR: InnerProductLayer; DLRM: dot interaction).

        out[b, p(i, j)] = sum_d x[b, i, d] * x[b, j, d]   for i < j, row-major upper triangle

    Args:
      x: field embeddings [B, F, D], float16, bfloat16, float32 or float64; F >= 2, F and D static.
      backend: "auto", "cpp", "xla" or "reference".

    Returns: [B, P] in the dtype of `x`, P = F(F-1)/2.

    Raises: ValueError for another rank, dtype or fewer than two fields; BackendError when a named
    backend cannot run.

    Numerics: 16-bit inputs accumulate in float32. Cost: `xla` multiplies the Gram matrix, 2BFFD
    flops and one [B, F, F] tensor in each direction, `cpp` a row's Gram matrix in cache; both keep
    `x` alone for the backward, which has no scatter.

    Source: Qu et al., Product-based Neural Networks, ICDM 2016, eq. 8.

    Example:
      >>> import recops
      >>> recops.ops.pairwise_inner([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]]).numpy()
      array([[11., 17., 39.]], dtype=float32)
    """
    return _ROOM.call("pairwise_inner", checks.fields("pairwise_inner", "x", x), backend=backend)


def pairwise_hadamard(x: Any, *, backend: str = "auto") -> tf.Tensor:
    """Element-wise product of every pair of fields.

        out[b, p(i, j), :] = x[b, i, :] * x[b, j, :]   for i < j, row-major upper triangle

    Args:
      x: field embeddings [B, F, D], float16, bfloat16, float32 or float64; F >= 2, F and D static.
      backend: "auto", "cpp", "xla" or "reference".

    Returns: [B, P, D] in the dtype of `x`, P = F(F-1)/2.

    Raises: ValueError for another rank, dtype or fewer than two fields; BackendError when a named
    backend cannot run.

    Numerics: 16-bit inputs multiply in float32 and round once. Cost: BPD flops; the backward keeps
    `x` alone and sums each field's pairs without a scatter (`xla` through a static index map, `cpp`
    in cache).

    Source: He & Chua, Neural Factorization Machines, SIGIR 2017, the summands of eq. 3.

    Example:
      >>> import recops
      >>> recops.ops.pairwise_hadamard([[[1.0, 2.0], [3.0, 4.0]]]).numpy()
      array([[[3., 8.]]], dtype=float32)
    """
    x = checks.fields("pairwise_hadamard", "x", x)
    return _ROOM.call("pairwise_hadamard", x, backend=backend)


def bi_interaction(x: Any, *, backend: str = "auto") -> tf.Tensor:
    """Sum of the element-wise products of all pairs (NFM's bi-interaction pooling).

        out[b, d] = sum_{i<j} x[b, i, d] * x[b, j, d] = ((sum_i x)^2 - sum_i x^2) / 2

    Args:
      x: field embeddings [B, F, D], float16, bfloat16, float32 or float64; F >= 2, F and D static.
      backend: "auto", "cpp", "xla" or "reference".

    Returns: [B, D] in the dtype of `x`.

    Raises: ValueError for another rank, dtype or fewer than two fields; BackendError when a named
    backend cannot run.

    Numerics: the difference of squares is taken in float32 for 16-bit inputs. Cost: 3BFD
    flops, no pair is ever formed; the backward keeps `x` alone.

    Source: He & Chua, Neural Factorization Machines, SIGIR 2017, eq. 3 and 4.

    Example:
      >>> import recops
      >>> recops.ops.bi_interaction([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]]).numpy()
      array([[23., 44.]], dtype=float32)
    """
    return _ROOM.call("bi_interaction", checks.fields("bi_interaction", "x", x), backend=backend)


def fm_interaction(x: Any, *, backend: str = "auto") -> tf.Tensor:
    """Second-order term of a factorization machine: the sum of all pairs' inner products.

        out[b, 0] = sum_{i<j} <x[b, i], x[b, j]>

    Args:
      x: field embeddings [B, F, D], float16, bfloat16, float32 or float64; F >= 2, F and D static.
      backend: "auto", "cpp", "xla" or "reference".

    Returns: [B, 1] in the dtype of `x`.

    Raises: ValueError for another rank, dtype or fewer than two fields; BackendError when a named
    backend cannot run.

    Numerics: the difference of squares is taken in float32 for 16-bit inputs. Cost: 3BFD
    flops, no pair is ever formed; the backward keeps `x` alone.

    Source: Rendle, Factorization Machines, ICDM 2010, lemma 3.1.

    Example:
      >>> import recops
      >>> recops.ops.fm_interaction([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]]).numpy()
      array([[67.]], dtype=float32)
    """
    return _ROOM.call("fm_interaction", checks.fields("fm_interaction", "x", x), backend=backend)


def field_aware_interaction(x: Any, *, backend: str = "auto") -> tf.Tensor:
    """Second-order term of a field-aware factorization machine.

        out[b, 0] = sum_{i<j} <x[b, i, j], x[b, j, i]>

    Args:
      x: [B, F, F, D], float16, bfloat16, float32 or float64; `x[:, i, j]` is field i's vector for
        use against field j. The diagonal takes no part, NaN there included. F >= 2, F and D static.
      backend: "auto", "cpp", "xla" or "reference".

    Returns: [B, 1] in the dtype of `x`.

    Raises: ValueError for another rank, dtype, unequal field axes or fewer than two fields;
    BackendError when a named backend cannot run.

    Numerics: 16-bit inputs accumulate in float32. Cost: 2BPD flops; the backward keeps `x`
    alone and is one transposed product.

    Source: Juan et al., Field-aware Factorization Machines, RecSys 2016, eq. 4.

    Example:
      >>> import recops, numpy as np
      >>> x = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
      >>> recops.ops.field_aware_interaction(x).numpy()
      array([[23.]], dtype=float32)
    """
    op = "field_aware_interaction"
    x = checks.floats(op, "x", x, "B F F D")
    fields = checks.static(op, "x", x, 1, "F")
    checks.static(op, "x", x, 3, "D")
    if fields < 2 or fields != checks.static(op, "x", x, 2, "F"):
        raise ValueError(
            f"{op}: x must have shape [B, F, F, D] with F >= 2 twice, got {checks.describe(x)}"
        )
    return _ROOM.call(op, x, backend=backend)
