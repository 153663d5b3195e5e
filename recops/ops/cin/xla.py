"""The compressed interaction network by blocks of rows, one GEMM a block, backward by hand.

A row is one dimension d of one example: the outer product of its Hk maps and F fields times the
kernel [Hk F, H]. A block's outer products are made, used and dropped, forward and backward, so that
only the inputs stand between the two. Where the maps are the fields themselves, (h, f) and (f, h)
have the same product, and the kernel folds to F(F+1)/2 columns.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from recops._core import dispatch
from recops._core.numerics import accumulate, jit, jit_forward

# Rows of a block: on a CPU its outer products shall stay in the cache, a GPU wants large products
# as far as the memory of a layer stays below three times its inputs, outputs and gradients.
_ROWS_CPU, _ROWS_GPU = 512, 2048


def compressed_interaction(
    x0: tf.Tensor, xk: tf.Tensor, kernel: tf.Tensor, itself: bool
) -> tf.Tensor:
    rows0 = _to_rows(x0)
    rows = _op(itself)(rows0, rows0 if itself else _to_rows(xk), kernel)
    return _from_rows(rows, x0.shape[2])


def cin(
    x: tf.Tensor,
    kernels: Sequence[tf.Tensor],
    biases: Sequence[tf.Tensor],
    activation: Callable[[tf.Tensor], tf.Tensor],
    split_half: bool,
) -> tf.Tensor:
    fields = state = _to_rows(x)
    outputs = []
    for k, kernel in enumerate(kernels):
        state = _op(k == 0)(fields, state, kernel)  # [B D, H]
        if biases:
            state = state + biases[k]
        shown = state = activation(state)
        if split_half and k < len(kernels) - 1:
            state, shown = tf.split(state, 2, axis=1)
        outputs.append(tf.reduce_sum(tf.reshape(shown, [-1, x.shape[2], shown.shape[1]]), axis=1))
    return tf.concat(outputs, axis=1)


def _to_rows(x: tf.Tensor) -> tf.Tensor:
    """[B, H, D] -> [B D, H]."""
    return tf.reshape(tf.transpose(x, [0, 2, 1]), [-1, x.shape[1]])


def _from_rows(rows: tf.Tensor, dim: int) -> tf.Tensor:
    """[B D, H] -> [B, H, D]."""
    return tf.transpose(tf.reshape(rows, [-1, dim, rows.shape[1]]), [0, 2, 1])


@functools.cache
def _op(itself: bool) -> Callable[..., tf.Tensor]:
    """The layer on rows: [N, F], [N, Hk], [H, Hk, F] -> [N, H]; `itself` ignores the second."""
    outer = _Squares if itself else _Products
    forward = jit_forward(accumulate(functools.partial(_forward, outer=outer)))
    backward = jit(accumulate(functools.partial(_backward, outer=outer)))

    @tf.custom_gradient
    def op(
        rows0: tf.Tensor, rowsk: tf.Tensor, kernel: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[..., Any]]:
        return forward(rows0, rowsk, kernel), lambda dy: backward(rows0, rowsk, kernel, dy)

    return op


class _Products:
    """Products of every map with every field, and what they give back."""

    @staticmethod
    def columns(kernel: tf.Tensor) -> tf.Tensor:
        """[H, Hk, F] -> [H, Hk F]."""
        return tf.reshape(kernel, [kernel.shape[0], -1])

    @staticmethod
    def unfold(dcolumns: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.reshape(dcolumns, kernel.shape)

    @staticmethod
    def of(block0: tf.Tensor, blockk: tf.Tensor) -> tf.Tensor:
        """[R, F], [R, Hk] -> [R, Hk F]."""
        products = blockk[:, :, None] * block0[:, None]
        return tf.reshape(products, [-1, blockk.shape[1] * block0.shape[1]])

    @staticmethod
    def back(
        dproducts: tf.Tensor, block0: tf.Tensor, blockk: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Gradients of both blocks."""
        full = tf.reshape(dproducts, [-1, blockk.shape[1], block0.shape[1]])
        d0 = tf.reduce_sum(full * blockk[:, :, None], axis=1)
        return d0, tf.reduce_sum(full * block0[:, None], axis=2)


class _Squares:
    """Products of the fields with each other, each unordered pair once."""

    @staticmethod
    def columns(kernel: tf.Tensor) -> tf.Tensor:
        """[H, F, F] -> [H, F (F+1) / 2]: the weights of (i, j) and (j, i) act as one."""
        fields = kernel.shape[2]
        low, high = np.triu_indices(fields)
        flat = tf.reshape(kernel, [kernel.shape[0], -1])
        both = tf.gather(flat, low * fields + high, axis=1)
        swapped = tf.gather(flat, high * fields + low, axis=1)
        return both + tf.where(low == high, tf.zeros([], kernel.dtype), swapped)

    @staticmethod
    def unfold(dcolumns: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.gather(dcolumns, _square_map(kernel.shape[2]), axis=1), kernel.shape)

    @staticmethod
    def of(block0: tf.Tensor, blockk: tf.Tensor) -> tf.Tensor:
        """[R, F] -> [R, F (F+1) / 2]."""
        low, high = np.triu_indices(block0.shape[1])
        return tf.gather(block0, low, axis=1) * tf.gather(block0, high, axis=1)

    @staticmethod
    def back(
        dproducts: tf.Tensor, block0: tf.Tensor, blockk: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The gradient of the fields; the second argument was not looked at."""
        fields = block0.shape[1]
        full = tf.gather(dproducts, _square_map(fields), axis=1)
        full = tf.reshape(full, [-1, fields, fields])
        # A square gives its derivative twice, a mixed product to either side once.
        twice = tf.constant(1 + np.eye(fields), full.dtype)
        return tf.reduce_sum(full * twice * block0[:, None], axis=2), tf.zeros_like(blockk)


@functools.cache
def _square_map(fields: int) -> np.ndarray:
    """Number of the unordered pair (i, j), i = j included, flattened [F * F]."""
    low, high = np.triu_indices(fields)
    table = np.zeros((fields, fields), np.int32)
    table[low, high] = table[high, low] = np.arange(len(low), dtype=np.int32)
    return table.reshape(-1)


def _blocks(rows: tf.Tensor) -> tf.Tensor:
    """[N, n] -> [blocks, R, n], one or more, with zero rows behind the last."""
    size = _ROWS_GPU if dispatch.gpu_visible() else _ROWS_CPU
    count = tf.shape(rows)[0]
    padded = tf.pad(rows, [[0, tf.maximum(-count % size, size - count)], [0, 0]])
    return tf.reshape(padded, [-1, size, rows.shape[1]])


def _unblocked(blocks: tf.TensorArray, rows: tf.Tensor) -> tf.Tensor:
    """The inverse of `_blocks`, as many rows as there were."""
    return blocks.concat()[: tf.shape(rows)[0]]


def _room(blocks: tf.Tensor, width: int) -> tf.TensorArray:
    """Room for [R, width] a block."""
    count, size = tf.shape(blocks)[0], blocks.shape[1]
    zeros = tf.zeros([count, size, width], blocks.dtype)
    return tf.TensorArray(blocks.dtype, count, element_shape=[size, width]).unstack(zeros)


def _forward(rows0: tf.Tensor, rowsk: tf.Tensor, kernel: tf.Tensor, *, outer: Any) -> tf.Tensor:
    columns = outer.columns(kernel)
    blocks0, blocksk = _blocks(rows0), _blocks(rowsk)
    count = tf.shape(blocks0)[0]

    def step(n: tf.Tensor, out: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        products = outer.of(blocks0[n], blocksk[n])
        return n + 1, out.write(n, tf.matmul(products, columns, transpose_b=True))

    start = (tf.constant(0), _room(blocks0, kernel.shape[0]))
    _, out = tf.while_loop(lambda n, _: n < count, step, start, maximum_iterations=count)
    return _unblocked(out, rows0)


def _backward(
    rows0: tf.Tensor, rowsk: tf.Tensor, kernel: tf.Tensor, dy: tf.Tensor, *, outer: Any
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    columns = outer.columns(kernel)
    blocks0, blocksk, dblocks = _blocks(rows0), _blocks(rowsk), _blocks(dy)
    count = tf.shape(blocks0)[0]

    def step(
        n: tf.Tensor, dcolumns: tf.Tensor, d0: tf.TensorArray, dk: tf.TensorArray
    ) -> tuple[Any, ...]:
        block0, blockk, dblock = blocks0[n], blocksk[n], dblocks[n]
        products = outer.of(block0, blockk)
        dcolumns += tf.matmul(dblock, products, transpose_a=True)
        mine, theirs = outer.back(tf.matmul(dblock, columns), block0, blockk)
        return n + 1, dcolumns, d0.write(n, mine), dk.write(n, theirs)

    start = (
        tf.constant(0),
        tf.zeros_like(columns),
        _room(blocks0, rows0.shape[1]),
        _room(blocksk, rowsk.shape[1]),
    )
    _, dcolumns, d0, dk = tf.while_loop(
        lambda n, *_: n < count, step, start, maximum_iterations=count
    )
    return _unblocked(d0, rows0), _unblocked(dk, rowsk), outer.unfold(dcolumns, kernel)
