"""Softmax cross-entropy over few candidates: sampled ones, or the other items of the batch."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

import tensorflow as tf

from recops._core import checks
from recops._core.dispatch import Room
from recops.ops.embedding.rows import bag_rows, poison
from recops.ops.sampled_softmax import cpp, reference, samplers, xla

_ROOM = Room("sampled_softmax", ("sampled_softmax", "in_batch_softmax"), reference, xla, cpp)


def sampled_softmax(
    inputs: Any,
    labels: Any,
    weights: Any,
    biases: Any = None,
    *,
    num_sampled: int,
    sampler: str = "log_uniform",
    counts: Any = None,
    distortion: float = 0.75,
    remove_accidental_hits: bool = True,
    sampled: Any = None,
    seed: Any = None,
    backend: str = "auto",
) -> tf.Tensor:
    """Cross-entropy of the label over itself and sampled ids (TF: sampled_softmax_loss).

        l(k) = <inputs[b], weights[k]> + biases[k] - log E[k]
        out[b] = log(exp l(labels[b]) + sum_s exp l(ids[s])) - l(labels[b])

    E[k] is how often id k is expected among the draws, so that the softmax estimates the full one.

    Args:
      inputs: [B, D], float16, bfloat16, float32 or float64.
      labels: [B], int32 or int64, ids 0..V.
      weights: [V+1, D], variable or tensor in the dtype of `inputs`; V may be unknown.
      biases: [V+1], variable or tensor, or None. Of a variable only the candidates' are read.
      num_sampled: S, draws for the whole batch.
      sampler: "uniform", "log_uniform" (p ~ log((k+1)/k): ids in order of falling frequency) or
        "frequency" (p ~ counts^distortion, drawn from an alias table). Draws are with replacement
        and never id 0.
      counts: [V+1] NumPy array or list of how often each id occurs, for "frequency"; the first
        one is not looked at, and an id with 0 is never drawn. Or the `samplers.AliasTable` made of
        them, whose parts may be variables: arrays are constants of a graph.
      distortion: exponent of the counts.
      remove_accidental_hits: leave a drawn id out of the rows whose label it is.
      sampled: (ids [S], log E of labels [B], log E of ids [S]) in place of a draw, S of their own;
        constants, which get no gradient.
      seed: None draws anew in each call; an integer or [2] integers, which may be tensors, make
        the draw a function of them, so a training step needs another each time.
      backend: "auto", "cpp", "xla" or "reference".

    Defaults: sampler="log_uniform", distortion=0.75, remove_accidental_hits=True.

    Returns: [B] in the dtype of `inputs`. The gradients of `weights` and `biases` are
    tf.IndexedSlices outside jit_compile.

    Raises: ValueError for a wrong rank, size, dtype or sampler; InvalidArgumentError for a label
    or an id of `sampled` that has no row (inside jit_compile=True the losses that it enters are
    NaN); BackendError when a named backend cannot run.

    Numerics: logits and the softmax are float32 for 16-bit inputs (`xla` rounds what it multiplies
    to their dtype, and the products of bfloat16 where they lie in memory); any logit is safe. Cost:
    2 B S D flops forward, of which the backward makes one third again to keep [B] numbers, not
    [B, S]; `cpp` holds one tile of the logits in cache, `xla` all of them.

    Source: Jean et al., On Using Very Large Target Vocabulary, ACL 2015; Bengio & Senecal 2008.

    Example:
      >>> import recops
      >>> table, ids = [[0.0], [0.0], [0.0]], [[2, 2], [0.0], [0.0, 0.0]]
      >>> loss = recops.ops.sampled_softmax([[1.0]], [1], table, num_sampled=2, sampled=ids)
      >>> [round(v, 4) for v in loss.numpy().tolist()]  # log 3
      [1.0986]
    """
    op = "sampled_softmax"
    inputs = checks.floats(op, "inputs", inputs, "B D")
    batch, dim = checks.sizes(inputs, 0), checks.static(op, "inputs", inputs, 1, "D")
    labels = checks.ids(op, "labels", labels, batch)
    weights = checks.table(op, "weights", weights)
    _same_dtype(op, "weights", weights, inputs)
    if weights.shape[1] != dim:
        raise ValueError(
            f"{op}: weights must have shape [V + 1, {dim}], got {checks.describe(weights)}"
        )
    if biases is not None:
        biases = checks.table(op, "biases", biases, checks.sizes(weights, 0))
        _same_dtype(op, "biases", biases, inputs)
    checks.choice(op, "sampler", sampler, samplers.SAMPLERS)
    if isinstance(num_sampled, bool) or not isinstance(num_sampled, Integral) or num_sampled < 1:
        raise ValueError(f"{op}: num_sampled must be a positive integer, got {num_sampled!r}")
    rows = tf.shape(weights)[0] if weights.shape[0] is None else weights.shape[0]
    found, valid = bag_rows(op, labels[:, None], tf.convert_to_tensor(rows))
    labels = found[:, 0]
    if sampled is None:
        table = _table(op, counts, distortion, weights) if sampler == "frequency" else None
        sampled = samplers.draw(labels, rows - 1, num_sampled, sampler, table, seed)
        drawn = True
    else:
        ids = tf.cast(checks.ids(op, "sampled ids", sampled[0], "S"), labels.dtype)
        found, drawn = bag_rows(f"{op}: sampled", ids[None], tf.convert_to_tensor(rows))
        sampled = (found[0], *sampled[1:])
    ids, log_labels, log_ids = sampled
    # A correction is a number of about -20 to 0 and enters logits that are at least float32.
    wide = tf.float64 if inputs.dtype == tf.float64 else tf.float32
    log_labels, log_ids = (
        tf.stop_gradient(tf.cast(tf.convert_to_tensor(t), wide)) for t in (log_labels, log_ids)
    )
    checks.shape(op, "log expected counts of labels", log_labels, batch)
    checks.shape(op, "log expected counts of ids", log_ids, checks.sizes(ids, 0))
    loss = _ROOM.call(
        op, inputs, labels, weights, biases, ids, log_labels, log_ids,
        remove_accidental_hits, backend=backend,
    )  # fmt: skip
    return poison(loss[:, None], valid[:, 0] & tf.reduce_all(drawn))[:, 0]


def in_batch_softmax(
    queries: Any,
    items: Any,
    item_ids: Any = None,
    log_q: Any = None,
    temperature: float = 1.0,
    *,
    backend: str = "auto",
) -> tf.Tensor:
    """Cross-entropy of each query's item among all items of the batch (two-tower models).

        l(b, j) = <queries[b], items[j]> / temperature - log_q[j]
        out[b] = log sum_j exp l(b, j) - l(b, b)

    Args:
      queries, items: [B, D], float16, bfloat16, float32 or float64; row b of both belong together.
      item_ids: [B], int32 or int64; an equal id off the diagonal is no negative and is left out.
      log_q: [B], log of the probability that item j is in a batch; None corrects nothing.
      temperature: above 0.
      backend: "auto", "cpp", "xla" or "reference".

    Defaults: temperature=1.0.

    Returns: [B] in the dtype of `queries`.

    Raises: ValueError for a wrong rank, size, dtype or temperature; BackendError when a named
    backend cannot run.

    Numerics: as `sampled_softmax`. Cost: 2 B B D flops forward; [B] numbers are kept.

    Source: Yi et al., Sampling-Bias-Corrected Neural Modeling, RecSys 2019, eq. 5.

    Example:
      >>> import recops
      >>> loss = recops.ops.in_batch_softmax([[0.0], [0.0]], [[1.0], [2.0]])
      >>> [round(v, 4) for v in loss.numpy().tolist()]  # log 2
      [0.6931, 0.6931]
    """
    op = "in_batch_softmax"
    queries = checks.floats(op, "queries", queries, "B D")
    batch, dim = checks.sizes(queries, 0), checks.sizes(queries, 1)
    items = checks.floats(op, "items", items, f"{batch} {dim}", dtype=queries.dtype)
    temperature = _temperature(op, temperature)
    if item_ids is not None:
        item_ids = checks.ids(op, "item_ids", item_ids, batch)
    wide = tf.float64 if queries.dtype == tf.float64 else tf.float32
    if log_q is None:
        log_q = tf.zeros([tf.shape(items)[0]], wide)
    log_q = checks.shape(op, "log_q", tf.cast(tf.convert_to_tensor(log_q), wide), batch)
    return _ROOM.call(op, queries, items, item_ids, log_q, temperature, backend=backend)


def _temperature(op: str, value: Any) -> float:
    try:
        number = float(value)
    except TypeError:  # a tensor of a graph among others: the number is part of the program
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError(f"{op}: temperature must be a number above 0, got {value!r}")
    return number


def _same_dtype(op: str, name: str, value: Any, inputs: tf.Tensor) -> None:
    if tf.as_dtype(value.dtype) != inputs.dtype:
        raise ValueError(
            f"{op}: {name} must have dtype {inputs.dtype.name} like inputs, got "
            f"{tf.as_dtype(value.dtype).name} with shape {checks.describe(value)}; cast one of them"
        )


def _table(op: str, counts: Any, distortion: float, weights: Any) -> samplers.AliasTable:
    rows = weights.shape[0]
    if not isinstance(counts, samplers.AliasTable):
        return samplers.alias_table(op, counts, distortion, rows)
    sizes = [list(part.shape) for part in counts]
    size = rows - 1 if rows else sizes[0][0]
    if sizes != [[size], [size], [size + 1]]:
        raise ValueError(
            f"{op}: an AliasTable of {size} ids must have shapes [{size}], [{size}] and "
            f"[{size + 1}], got {sizes}"
        )
    return counts
