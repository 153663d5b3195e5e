"""Multi-head attention on heads that are already projected."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from recops._core import checks
from recops._core.dispatch import Room
from recops.ops.attention import cpp, reference, xla

_ROOM = Room("attention", ("multi_head_attention",), reference, xla, cpp)


def multi_head_attention(
    query: Any,
    key: Any,
    value: Any,
    mask: Any = None,
    causal: bool = False,
    scale: float | None = None,
    *,
    backend: str = "auto",
) -> tf.Tensor:
    """Scaled dot-product attention for all heads (PyTorch: scaled_dot_product_attention).

        out[b, t, n] = sum_s softmax_s(scale <query[b, t, n], key[b, s, n]>) value[b, s, n]

    Args:
      query: [B, T, N, E], float16, bfloat16, float32 or float64; N and E static.
      key, value: [B, S, N, E], dtype of `query`.
      mask: bool, True = keep: [B, S] of keys, [B, T, S], or [B, 1 or N, T, S].
      causal: also keep only keys s <= t.
      scale: factor of the scores; None is 1 / sqrt(E).
      backend: "auto", "cpp", "xla" or "reference".

    Defaults: causal=False.

    Returns: [B, T, N, E] in the dtype of `query`; 0 in a row that keeps no key.

    Raises: ValueError for a wrong rank, size or dtype; BackendError when a named backend cannot
    run.

    Numerics: scores and softmax are float32 for 16-bit inputs; what enters a product is rounded to
    their dtype (`cpp`: where the processor has one of bfloat16; `xla`: on a GPU, where the scores
    of bfloat16 and the gradients of its weights are rounded to it in memory too). Any score size is
    safe. A key that no query keeps changes neither output nor gradient, NaN included. Cost: 4BNTSE
    flops forward; `cpp` holds the scores of one head of one row at a time, skips the keys that none
    of its queries keeps, and keeps its inputs alone: the weights are made again on the way back
    (2BNTSE more flops). `xla` does so too, and on a CPU keeps the output and each row's maximum and
    sum, [B, N, T, 1] each (inside one jitted step XLA for a CPU may keep the weights instead);
    `reference` keeps the weights [B, N, T, S].

    Source: Vaswani et al., Attention Is All You Need, NeurIPS 2017, eq. 1; the recomputation as in
    Dao et al., FlashAttention, NeurIPS 2022.

    Example:
      >>> import recops, numpy as np
      >>> q, k = np.ones((1, 1, 1, 2)), np.zeros((1, 2, 1, 2))
      >>> v = np.array([1.0, 3.0]).reshape(1, 2, 1, 1).repeat(2, 3)
      >>> recops.ops.multi_head_attention(q, k, v).numpy().ravel().tolist()
      [2.0, 2.0]
    """
    op = "multi_head_attention"
    query = checks.floats(op, "query", query, "B T N E")
    heads = checks.static(op, "query", query, 2, "N")
    dim = checks.static(op, "query", query, 3, "E")
    batch = checks.sizes(query, 0)
    key = checks.floats(op, "key", key, f"{batch} S {heads} {dim}", query.dtype)
    value = checks.floats(op, "value", value, f"{batch} S {heads} {dim}", query.dtype)
    checks.shape(op, "value", value, f"{checks.sizes(key, 0, 1)} {heads} {dim}")
    kept = _kept(op, mask, causal, query, key)
    scale = 1 / math.sqrt(dim) if scale is None else float(scale)
    return _ROOM.call(op, query, key, value, kept, scale, backend=backend)


def _kept(op: str, mask: Any, causal: bool, query: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """The mask and the causal mask as one, [B or 1, N or 1, T or 1, S]."""
    steps, sources = tf.shape(query)[1], tf.shape(key)[1]
    if mask is None:
        kept = tf.ones([1, 1, 1, sources], tf.bool)
    else:
        kept = tf.convert_to_tensor(mask)
        rank = kept.shape.rank
        if rank not in (2, 3, 4):
            raise ValueError(
                f"{op}: mask must have shape [B, S], [B, T, S] or [B, 1 or N, T, S], got "
                f"{checks.describe(kept)}"
            )
        batch, t, s = *checks.sizes(query, 0, 1).split(), checks.sizes(key, 1)
        head = "1" if rank == 4 and kept.shape[1] == 1 else str(query.shape[2])
        axes = {2: f"{batch} {s}", 3: f"{batch} {t} {s}", 4: f"{batch} {head} {t} {s}"}[rank]
        kept = checks.mask(op, "mask", kept, axes)
        kept = kept if rank == 4 else kept[:, None, None] if rank == 2 else kept[:, None]
    if causal:
        kept &= (tf.range(sources) <= tf.range(steps)[:, None])[None, None]
    return kept
