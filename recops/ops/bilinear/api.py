"""Bilinear interaction: a weighted Hadamard product of every pair of fields."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops._core import checks
from recops._core.dispatch import Room
from recops.ops.bilinear import cpp, plain, reference, xla
from recops.ops.pairwise.pairs import pair_count

TYPES = ("all", "each", "interaction")

_ROOM = Room("bilinear", ("bilinear_interaction",), reference, xla, cpp, plain)


def bilinear_interaction(
    x: Any, kernel: Any, bilinear_type: str, *, backend: str = "auto"
) -> tf.Tensor:
    """Bilinear interaction of every pair of fields (FiBiNET; DeepCTR: BilinearInteraction).

        out[b, p(i, j), :] = (x[b, i, :] @ W) * x[b, j, :]   for i < j, row-major upper triangle

    W is `kernel` for "all", `kernel[i]` for "each" (the last field is never on the left and has no
    matrix) and `kernel[p(i, j)]` for "interaction".

    Args:
      x: field embeddings [B, F, D], float16, bfloat16, float32 or float64; F >= 2, F and D static.
      kernel: in the dtype of `x`: [D, D] for "all", [F-1, D, D] for "each", [P, D, D] for
        "interaction", P = F(F-1)/2.
      bilinear_type: "all", "each" or "interaction".
      backend: "auto", "cpp", "xla" or "reference".

    Returns: [B, P, D] in the dtype of `x`.

    Raises: ValueError for another rank, size, dtype or type, or fewer than two fields; BackendError
    when a named backend cannot run.

    Numerics: 16-bit inputs accumulate in float32 and round once. Cost: 2BFDD flops for "all" and
    "each", 2BPDD for "interaction", and BPD for the products; twice that backward. The backward
    keeps `x` and `kernel` alone: what stands left of each product is computed again. `cpp` does so
    a block of rows at a time and reads or writes nothing of size [B, P, D] but dy and the result.

    Source: Huang et al., FiBiNET, RecSys 2019, eq. 6 to 8.

    Example:
      >>> import recops
      >>> x, kernel = [[[1.0, 2.0], [3.0, 4.0]]], [[0.0, 1.0], [1.0, 0.0]]
      >>> recops.ops.bilinear_interaction(x, kernel, "all").numpy()
      array([[[6., 4.]]], dtype=float32)
    """
    op = "bilinear_interaction"
    x = checks.fields(op, "x", x)
    checks.choice(op, "bilinear_type", bilinear_type, TYPES)
    fields, dim = x.shape[1], x.shape[2]
    matrices = {"all": "", "each": str(fields - 1), "interaction": str(pair_count(fields))}
    name = f"kernel (bilinear_type {bilinear_type!r}, {fields} fields)"
    axes = f"{matrices[bilinear_type]} {dim} {dim}"
    kernel = checks.floats(op, name, kernel, axes, dtype=x.dtype)
    return _ROOM.call(op, x, kernel, bilinear_type, backend=backend)
