"""Lookups in one embedding table: all fields by one gather, and pooled bags of ids."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops._core import checks
from recops._core.dispatch import Room
from recops.ops.embedding import cpp, plain, reference, xla

_ROOM = Room("embedding", ("embedding_lookup", "embedding_bag"), reference, xla, cpp, plain)

COMBINERS = ("mean", "sum", "sqrtn")


def embedding_lookup(
    table: Any, ids: Any, offsets: Any = None, *, backend: str = "auto"
) -> tf.Tensor:
    """Embeddings of all fields by one gather from one table.

        out[b, f, :] = table[ids[b, f] + offsets[f], :]

    Args:
      table: [R, D], a variable or tensor of float16, bfloat16, float32 or float64. Of a variable
        only the rows asked for are read.
      ids: [B, F], int32 or int64, F static; field f's ids run from 0 to the next larger offset
        (or R) minus offsets[f].
      offsets: [F], the first row of each field; None is 0 for all.
      backend: "auto", "cpp", "xla" or "reference".

    Returns: [B, F, D] in the dtype of `table`. The gradient of `table` is a tf.IndexedSlices
    outside jit_compile.

    Raises: InvalidArgumentError that names an id without a row of its field, its column and the
    rows; inside jit_compile=True only `cpp` can raise, and with the others, and in any graph for a
    GPU, which would wait for the host, the embedding of such an id is NaN. ValueError for
    a wrong rank or dtype; BackendError when a named backend cannot run.

    Numerics: none, values are copied. Cost: B F D values read and written, by `cpp` in one pass
    with the check of the ids, by `xla` with one gather; `reference` F gathers.

    Source: Guo et al., DeepFM, IJCAI 2017, the dense embeddings; offsets as in DLRM's fused tables.

    Example:
      >>> import recops
      >>> table = [[0.0], [1.0], [2.0], [10.0], [11.0]]
      >>> recops.ops.embedding_lookup(table, [[2, 1]], offsets=[0, 3]).numpy().tolist()
      [[[2.0], [11.0]]]
    """
    op = "embedding_lookup"
    table = checks.table(op, "table", table)
    ids = checks.ids(op, "ids", ids, "B F")
    fields = checks.static(op, "ids", ids, 1, "F")
    offsets = [0] * fields if offsets is None else offsets
    offsets = checks.ids(op, "offsets", offsets, f"{fields}")
    return _ROOM.call(op, table, ids, offsets, backend=backend)


def embedding_bag(
    table: Any,
    ids: Any,
    mask: Any = None,
    weights: Any = None,
    combiner: str = "mean",
    *,
    backend: str = "auto",
) -> tf.Tensor:
    """Pooled embeddings of a list of ids (PyTorch: EmbeddingBag).

        sum:    out[b] = sum_t w[b, t] table[ids[b, t]]    over the kept t
        mean:   the sum divided by sum_t w[b, t]
        sqrtn:  the sum divided by sqrt(sum_t w[b, t]^2)

    Args:
      table: [R, D], a variable or tensor of float16, bfloat16, float32 or float64.
      ids: [B, T], int32 or int64, in 0..R-1 where kept.
      mask: [B, T] bool, True = keep; None keeps all.
      weights: [B, T] in the dtype of `table`; None is 1 for all.
      combiner: "mean", "sum" or "sqrtn".
      backend: "auto", "cpp", "xla" or "reference".

    Defaults: combiner="mean".

    Returns: [B, D] in the dtype of `table`; 0 where nothing is kept or the weights sum to 0. The
    gradient of `table` is a tf.IndexedSlices outside jit_compile.

    Raises: InvalidArgumentError that names a kept id outside the table and the rows; inside
    jit_compile=True only `cpp` can raise, and with the others, and in any graph for a GPU, a bag
    with such an id is NaN.
    ValueError for a wrong rank, dtype or combiner; BackendError when a named backend cannot run.

    Numerics: 16-bit tables accumulate in float32. What is under the mask, ids out of range and NaN
    included, changes neither output nor gradient. Cost: 2BTD flops; `cpp` sums the rows where they
    stand and keeps nothing (of a variable with weights: the rows read); `xla` one gather [B, T, D],
    which is kept for the backward only when there are weights.

    Source: Covington et al., Deep Neural Networks for YouTube Recommendations, RecSys 2016, the
    averaged watch vector.

    Example:
      >>> import recops
      >>> table = [[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]]
      >>> recops.ops.embedding_bag(table, [[1, 2, 0]], mask=[[True, True, False]]).numpy()
      array([[2., 3.]], dtype=float32)
    """
    op = "embedding_bag"
    table = checks.table(op, "table", table)
    ids = checks.ids(op, "ids", ids, "B T")
    checks.choice(op, "combiner", combiner, COMBINERS)
    if mask is None:
        mask = tf.ones_like(ids, tf.bool)
    sizes = checks.sizes(ids, 0, 1)
    mask = checks.mask(op, "mask", mask, sizes)
    if weights is not None:
        weights = checks.floats(op, "weights", weights, sizes, tf.as_dtype(table.dtype))
    return _ROOM.call(op, table, ids, mask, weights, combiner, backend=backend)
