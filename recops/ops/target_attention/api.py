"""DIN's activation unit: attention of a target over a history, scored by a small network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from recops._core import checks
from recops._core.activations import ACTIVATIONS
from recops._core.dispatch import Room
from recops.ops.target_attention import cpp, reference, xla

_ROOM = Room("target_attention", ("target_attention",), reference, xla, cpp)


def target_attention(
    query: Any,
    keys: Any,
    kernels: Sequence[Any],
    biases: Sequence[Any],
    mask: Any = None,
    activation: str | None = "sigmoid",
    normalize: bool = True,
    *,
    backend: str = "auto",
) -> tuple[tf.Tensor, tf.Tensor]:
    """Attention of a target over a history (DIN; DeepCTR: AttentionSequencePoolingLayer).

        score[b, t] = MLP([q, k, q - k, q * k])         q = query[b], k = keys[b, t]
        weights[b] = softmax over the kept t of score[b]        (normalize=False: score[b])
        pooled[b] = sum_t weights[b, t] keys[b, t]

    Args:
      query: targets [B, D], float16, bfloat16, float32 or float64; D static.
      keys: histories [B, T, D], dtype of `query`.
      kernels: of the MLP's layers, [4D, A], ..., [*, 1]; static widths, dtype of `query`.
      biases: [A], ..., [1], one a layer. The last may be left out: the softmax does not see it.
      mask: [B, T] bool, True = keep; None keeps all.
      activation: after every layer but the last: "sigmoid", "relu", "tanh" or "linear" (also None).
      normalize: softmax over the kept keys; False keeps the scores, with 0 at padding (the paper).
      backend: "auto", "cpp", "xla" or "reference".

    Defaults: activation="sigmoid", normalize=True.

    Returns: (pooled [B, D], weights [B, T]) in the dtype of `query`; both have gradients. 0 in a
    row that keeps no key.

    Raises: ValueError for a wrong rank, width, dtype or number of kernels, or another activation;
    BackendError when a named backend cannot run.

    Numerics: 16-bit inputs compute in float32 throughout, the softmax subtracts its largest score.
    A key under the mask changes neither output nor gradient, NaN included. Cost: the first layer
    is 8BTDA flops as written. `xla` folds it into one kernel [D, A] an example and a row [A] for
    its target: 2BTDA + 4BDA, twice that backward, and nothing [B, T, 4D] in either direction. For
    the backward it keeps each hidden layer's output [B, T, A] and the weights, both in at least
    float32, and makes the folded kernels [B, D, A] again. `cpp` folds one row at a time and
    passes over padded steps; it keeps the weights alone and makes the hidden layers again, a third
    more flops.

    Source: Zhou et al., Deep Interest Network, KDD 2018, section 4.3. The paper normalizes nothing;
    q - k and the softmax are the authors' code's.

    Example:
      >>> import recops
      >>> q, k = [[1.0, 2.0]], [[[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]]]
      >>> kernel = [[0.0]] * 6 + [[1.0]] * 2  # <q, k>
      >>> _, scores = recops.ops.target_attention(q, k, [kernel], [[0.0]], normalize=False)
      >>> scores.numpy()
      array([[ 1.,  2., 15.]], dtype=float32)
    """
    op = "target_attention"
    query = checks.floats(op, "query", query, "B D")
    dim = checks.static(op, "query", query, 1, "D")
    keys = checks.floats(op, "keys", keys, f"B T {dim}", query.dtype)
    checks.shape(op, "keys", keys, f"{checks.sizes(query, 0)} T {dim}")
    if mask is None:
        mask = tf.ones(tf.shape(keys)[:2], tf.bool)
    mask = checks.mask(op, "mask", mask, checks.sizes(keys, 0, 1))
    kernels, biases = _network(op, kernels, biases, 4 * dim, query.dtype)
    name = "linear" if activation is None else activation
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ValueError(
            f"{op}: activation must be one of {', '.join(ACTIVATIONS)} or None, got {name!r}; "
            f"recops.layers.TargetAttention takes any, those with weights (dice, prelu) included"
        )
    return _ROOM.call(
        op, query, keys, kernels, biases, mask, name, bool(normalize), backend=backend
    )


def _network(
    op: str, kernels: Sequence[Any], biases: Sequence[Any], width: int, dtype: tf.DType
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """The checked weights of the MLP, as many biases as kernels."""
    if not kernels or len(biases) not in (len(kernels), len(kernels) - 1):
        raise ValueError(
            f"{op}: needs at least one kernel and a bias for each (the last may be left out), got "
            f"{len(kernels)} kernels and {len(biases)} biases"
        )
    checked: tuple[list[tf.Tensor], list[tf.Tensor]] = ([], [])
    for i, kernel in enumerate(kernels):
        units = "1" if i == len(kernels) - 1 else "A"
        kernel = checks.floats(op, f"kernels[{i}]", kernel, f"{width} {units}", dtype)
        width = checks.static(op, f"kernels[{i}]", kernel, 1, units)
        bias = biases[i] if i < len(biases) else tf.zeros([1], dtype)
        checked[0].append(kernel)
        checked[1].append(checks.floats(op, f"biases[{i}]", bias, str(width), dtype))
    return checked
