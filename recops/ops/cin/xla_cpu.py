"""The compressed interaction in the form for a CPU's XLA: by blocks of rows, one GEMM a block.

A column is one dimension d of one example: the kernel [H, Hk F] times the outer product of its Hk
maps and F fields. A block's outer products [Hk F, C] are made, used and dropped, forward and
backward, so that only the inputs stand between the two; with columns innermost, products and their
sums over maps or fields run along whole vectors. Where the maps are the fields themselves, (h, f)
and (f, h) have the same product, and the kernel folds to F(F+1)/2 weights a map.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from recops._core.numerics import accumulate
from recops.ops.cin.weights import flat, square_map, unfold

# Columns of a block, whose outer products shall stay in the cache.
_COLUMNS = 256


class _Products:
    """Products of every map with every field, and what they give back."""

    @staticmethod
    def of(block0: tf.Tensor, blockk: tf.Tensor) -> tf.Tensor:
        """[F, C], [Hk, C] -> [Hk F, C]."""
        products = blockk[:, None] * block0
        return tf.reshape(products, [-1, block0.shape[1]])

    @staticmethod
    def back(
        dproducts: tf.Tensor, block0: tf.Tensor, blockk: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Gradients of both blocks."""
        full = tf.reshape(dproducts, [blockk.shape[0], *block0.shape])
        d0 = tf.reduce_sum(full * blockk[:, None], axis=0)
        return d0, tf.reduce_sum(full * block0, axis=1)


class _Squares:
    """Products of the fields with each other, each unordered pair once."""

    @staticmethod
    def of(block0: tf.Tensor, blockk: tf.Tensor) -> tf.Tensor:
        """[F, C] -> [F (F+1) / 2, C]."""
        low, high = np.triu_indices(block0.shape[0])
        return tf.gather(block0, low) * tf.gather(block0, high)

    @staticmethod
    def back(
        dproducts: tf.Tensor, block0: tf.Tensor, blockk: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The gradient of the fields; the second argument was not looked at."""
        fields, columns = block0.shape
        full = tf.gather(dproducts, square_map(fields))
        full = tf.reshape(full, [fields, fields, columns])
        # A square gives its derivative twice, a mixed product to either side once.
        twice = tf.constant(1 + np.eye(fields)[..., None], full.dtype)
        return tf.reduce_sum(full * twice * block0, axis=1), tf.zeros_like(blockk)


_OUTER: dict[bool, Any] = {True: _Squares, False: _Products}


def _rows(dim: int) -> int:
    """Rows of a block."""
    return max(1, _COLUMNS // dim)


def _blocks(x: tf.Tensor) -> tf.Tensor:
    """[B, H, D] -> [blocks, H, R D], one block or more, with zero rows behind the last."""
    maps, dim = x.shape[1:]
    rows, batch = _rows(dim), tf.shape(x)[0]
    padded = tf.pad(x, [[0, tf.maximum(-batch % rows, rows - batch)], [0, 0], [0, 0]])
    split = tf.transpose(tf.reshape(padded, [-1, rows, maps, dim]), [0, 2, 1, 3])
    return tf.reshape(split, [-1, maps, rows * dim])


def _unblocked(blocks: tf.TensorArray, like: tf.Tensor) -> tf.Tensor:
    """The inverse of `_blocks`, as many rows and dimensions as `like` has."""
    stack, dim = blocks.stack(), like.shape[2]
    maps, rows = stack.shape[1], _rows(dim)
    split = tf.transpose(tf.reshape(stack, [-1, maps, rows, dim]), [0, 2, 1, 3])
    flat = tf.reshape(split, [-1, maps, dim])[: tf.shape(like)[0]]
    flat.set_shape([like.shape[0], maps, dim])
    return flat


def _room(blocks: tf.Tensor, maps: int) -> tf.TensorArray:
    """Room for [maps, C] a block."""
    count, columns = tf.shape(blocks)[0], blocks.shape[2]
    zeros = tf.zeros([count, maps, columns], blocks.dtype)
    return tf.TensorArray(blocks.dtype, count, element_shape=[maps, columns]).unstack(zeros)


@accumulate
def forward(x0: tf.Tensor, xk: tf.Tensor, kernel: tf.Tensor, *, itself: bool) -> tf.Tensor:
    outer, weights = _OUTER[itself], flat(kernel, itself)
    blocks0, blocksk = _blocks(x0), _blocks(xk)
    count = tf.shape(blocks0)[0]

    def step(n: tf.Tensor, out: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        products = outer.of(blocks0[n], blocksk[n])
        return n + 1, out.write(n, tf.matmul(weights, products))

    start = (tf.constant(0), _room(blocks0, kernel.shape[0]))
    _, out = tf.while_loop(lambda n, _: n < count, step, start, maximum_iterations=count)
    return _unblocked(out, x0)


@accumulate
def backward(
    x0: tf.Tensor, xk: tf.Tensor, kernel: tf.Tensor, dy: tf.Tensor, *, itself: bool
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    outer, weights = _OUTER[itself], flat(kernel, itself)
    blocks0, blocksk, dblocks = _blocks(x0), _blocks(xk), _blocks(dy)
    count = tf.shape(blocks0)[0]

    def step(
        n: tf.Tensor, dweights: tf.Tensor, d0: tf.TensorArray, dk: tf.TensorArray
    ) -> tuple[Any, ...]:
        block0, blockk, dblock = blocks0[n], blocksk[n], dblocks[n]
        products = outer.of(block0, blockk)
        dweights += tf.matmul(dblock, products, transpose_b=True)
        mine, theirs = outer.back(tf.matmul(weights, dblock, transpose_a=True), block0, blockk)
        return n + 1, dweights, d0.write(n, mine), dk.write(n, theirs)

    start = (
        tf.constant(0),
        tf.zeros_like(weights),
        _room(blocks0, x0.shape[1]),
        _room(blocksk, xk.shape[1]),
    )
    _, dweights, d0, dk = tf.while_loop(
        lambda n, *_: n < count, step, start, maximum_iterations=count
    )
    return _unblocked(d0, x0), _unblocked(dk, xk), unfold(dweights, kernel, itself)
