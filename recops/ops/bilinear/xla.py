"""Bilinear interaction in few products, backward by hand and without a scatter.

"interaction" has a matrix a pair, and field i has F-1-i pairs, so that the fields taken one by one
are F-1 products of different widths. Two left fields whose numbers of pairs add up to the same
share an entry of one batch: their rows side by side [B, 2D], times their matrices on the block
diagonal [2D, pairs D]. That doubles the flops of products that memory bounds, and writes nothing
but the result. On a CPU one product a field is the faster form.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from recops._core import device
from recops._core.numerics import jit, jit_forward, widened
from recops._core.products import einsum, stored
from recops.ops.bilinear import xla_cpu
from recops.ops.pairwise.pairs import by_left, left_sums, pair_indices, right_sums

_Pair = tuple[tf.Tensor, tf.Tensor]


def bilinear_interaction(x: tf.Tensor, kernel: tf.Tensor, bilinear_type: str) -> tf.Tensor:
    forms = _BY_FIELD
    if bilinear_type == "interaction":
        forms = device.form(gpu=_BY_GROUP, cpu=xla_cpu.FORMS)
    return _op(*forms)(x, kernel)


@functools.cache
def _op(forward: Any, backward: Any) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    forward, backward = jit_forward(forward), jit(backward)

    @tf.custom_gradient
    def op(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
        return forward(x, kernel), lambda dy: backward(x, kernel, dy)

    return op


def _turned(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """x_i @ W for "all" [D, D], x_i @ W_i for "each" [F-1, D, D]; [B, F-1, D]."""
    if kernel.shape.rank == 2:
        return widened(einsum("bfd,de->bfe", x[:, :-1], kernel, stored(x.dtype)))[0]
    return widened(einsum("bfd,fde->bfe", x[:, :-1], kernel, stored(x.dtype)))[0]


def _take_rows(x: tf.Tensor, index: np.ndarray) -> tf.Tensor:
    """`tf.gather(x, index, axis=1)`, as a gather of rows: [B, F, D] -> [B, P, D].

    XLA gives a product of two gathers along axis 1 a layout by pair, which is copied where the
    result leaves the program and worked out again in all that reads it. With this on one side the
    product is laid out by example, and neither happens.
    """
    rows = tf.range(tf.shape(x)[0])[:, None] * x.shape[1] + index
    return tf.gather(tf.reshape(x, [-1, x.shape[2]]), rows)


def _by_field(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    left, right = pair_indices(x.shape[1])
    products = tf.gather(_turned(x, kernel), left, axis=1) * _take_rows(widened(x)[0], right)
    return tf.cast(products, x.dtype)


def _by_field_grad(x: tf.Tensor, kernel: tf.Tensor, dy: tf.Tensor) -> _Pair:
    wide, above = widened(x, dy)
    dturned = tf.cast(left_sums(above, wide)[:, :-1], x.dtype)  # [B, F-1, D]
    axes = "de" if kernel.shape.rank == 2 else "fde"
    # By field also where all share a matrix: XLA for a CPU sums so many rows on one thread.
    dkernel = einsum("bfd,bfe->fde", x[:, :-1], dturned)
    dkernel = tf.reduce_sum(dkernel, axis=0) if kernel.shape.rank == 2 else dkernel
    dx = tf.pad(einsum(f"bfe,{axes}->bfd", dturned, kernel), [[0, 0], [0, 1], [0, 0]])
    turned = tf.split(_turned(x, kernel), x.shape[1] - 1, axis=1)
    dx += right_sums(above, turned)
    return tf.cast(dx, x.dtype), tf.cast(dkernel, x.dtype)


class _Groups:
    """Left fields that share an entry of the batch: two, with `pairs` pairs together.

    Of an even number of fields F the i-th and the i-th last have F-1 pairs; of an odd one F of all
    that are ever on the left.
    """

    def __init__(self, fields: int) -> None:
        lefts = fields if fields % 2 == 0 else fields - 1
        self.count, self.pairs = lefts // 2, fields - 1 + fields % 2
        both = [(i, lefts - 1 - i) for i in range(self.count)]
        self.fields = np.array(both, np.int32).reshape(-1)  # [G * 2]
        left = pair_indices(fields)[0]
        self.order = np.concatenate([np.flatnonzero(left == i) for i in self.fields])  # [G * C]
        self.back = np.argsort(self.order)
        # Whether a pair of a group belongs to its first or its second field.
        firsts = np.array([fields - 1 - i for i, _ in both])[:, None, None]
        second = np.arange(self.pairs)[None, None] >= firsts  # [G, 1, C]
        self.mine = np.concatenate([~second, second], axis=1)  # [G, 2, C]


_groups = functools.cache(_Groups)


def _side_by_side(x: tf.Tensor, groups: _Groups) -> tf.Tensor:
    """[B, F, D] -> [B, G, 2D]."""
    rows = tf.gather(x, groups.fields, axis=1)
    return tf.reshape(rows, [-1, groups.count, 2 * x.shape[2]])


def _block_diagonal(kernel: tf.Tensor, groups: _Groups) -> tf.Tensor:
    """[P, D, D] -> [G, 2D, C D]."""
    dim = kernel.shape[2]
    blocks = tf.reshape(tf.gather(kernel, groups.order), [groups.count, 1, -1, dim, dim])
    mine = groups.mine[..., None, None]
    blocks = tf.where(mine, blocks, tf.zeros([], kernel.dtype))  # [G, 2, C, D, D]
    return tf.reshape(tf.transpose(blocks, [0, 1, 3, 2, 4]), [groups.count, 2 * dim, -1])


def _turned_by_group(
    x: tf.Tensor, kernel: tf.Tensor, groups: _Groups, dtype: tf.DType | None = None
) -> tf.Tensor:
    """x_i @ W_p of all pairs in the order of the groups, [B, P, D]."""
    rows, blocks = _side_by_side(x, groups), _block_diagonal(kernel, groups)
    turned = einsum("bgm,gmn->bgn", rows, blocks, dtype)
    return tf.reshape(turned, [-1, len(groups.order), x.shape[2]])


def _by_group(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    groups = _groups(x.shape[1])
    turned = tf.gather(_turned_by_group(x, kernel, groups, x.dtype), groups.back, axis=1)
    turned, right = widened(turned, tf.gather(x, pair_indices(x.shape[1])[1], axis=1))
    return tf.cast(turned * right, x.dtype)


def _by_group_grad(x: tf.Tensor, kernel: tf.Tensor, dy: tf.Tensor) -> _Pair:
    fields, dim = x.shape[1], x.shape[2]
    groups = _groups(fields)
    rights = pair_indices(fields)[1][groups.order]
    above, right = widened(tf.gather(dy, groups.order, axis=1), tf.gather(x, rights, axis=1))
    dturned = tf.reshape(tf.cast(above * right, x.dtype), [-1, groups.count, groups.pairs * dim])
    dleft = einsum("bgn,gmn->bgm", dturned, _block_diagonal(kernel, groups), x.dtype)
    dleft = tf.gather(
        tf.reshape(dleft, [-1, 2 * groups.count, dim]), np.argsort(groups.fields), axis=1
    )
    blocks = einsum("bgm,bgn->gmn", _side_by_side(x, groups), dturned)
    blocks = tf.reshape(blocks, [groups.count, 2, dim, groups.pairs, dim])
    blocks = tf.where(groups.mine[:, :, None, :, None], blocks, tf.zeros([], blocks.dtype))
    dkernel = tf.transpose(tf.reduce_sum(blocks, axis=1), [0, 2, 1, 3])  # [G, C, D, D]
    dkernel = tf.gather(tf.reshape(dkernel, [-1, dim, dim]), groups.back)
    if fields % 2:  # the last one is never on the left
        dleft = tf.pad(dleft, [[0, 0], [0, 1], [0, 0]])
    # With 32 bits, though the forward stores 16 of them: the sums are of as many roundings.
    turned = _turned_by_group(x, kernel, groups)
    starts = [int(groups.back[at.start]) for _, at in by_left(fields)]
    lefts = [turned[:, start : start + fields - 1 - i] for i, start in enumerate(starts)]
    dx = widened(dleft)[0] + right_sums(widened(dy)[0], lefts)
    return tf.cast(dx, x.dtype), tf.cast(dkernel, x.dtype)


_BY_FIELD = (_by_field, _by_field_grad)
_BY_GROUP = (_by_group, _by_group_grad)
