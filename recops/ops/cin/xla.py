"""The compressed interaction in few large products for a GPU, backward by hand.

A row is one dimension d of one example, with the outer product of its Hk maps and F fields in it:
[B D, Hk F] times the kernel [Hk F, H]. The outer products are laid out as the three products read
them, forward, for the kernel and for themselves, so that none of them is transposed, and they are
rounded to what is stored. Where the maps are the fields themselves, (h, f) and (f, h) have the same
product, and the kernel folds to F(F+1)/2 weights a map. On a CPU, blocks that stay in its cache are
faster (`xla_cpu.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from recops._core import device
from recops._core.numerics import jit, jit_forward, twice, widened
from recops._core.products import matmul, stored
from recops.ops.cin import reference, xla_cpu
from recops.ops.cin.reference import stacked
from recops.ops.cin.weights import flat, square_map, unfold


def compressed_interaction(
    x0: tf.Tensor, xk: tf.Tensor, kernel: tf.Tensor, itself: bool
) -> tf.Tensor:
    forms = device.form(gpu=(_forward, _backward), cpu=(xla_cpu.forward, xla_cpu.backward))
    return _op(itself, *forms)(x0, x0 if itself else xk, kernel)


cin = functools.partial(stacked, compressed_interaction)


@functools.cache
def _op(itself: bool, forward: Any, backward: Any) -> Callable[..., tf.Tensor]:
    """[B, F, D], [B, Hk, D], [H, Hk, F] -> [B, H, D]; `itself` ignores the second."""
    forward = jit_forward(functools.partial(forward, itself=itself))
    backward = jit(functools.partial(backward, itself=itself))

    def formula(x0: tf.Tensor, xk: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return reference.compressed_interaction(x0, x0 if itself else xk, kernel, itself)

    gradient = twice(backward, formula)

    @tf.custom_gradient
    def op(x0: tf.Tensor, xk: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        return forward(x0, xk, kernel), lambda dy: gradient((x0, xk, kernel), (), (dy,))

    return op


def _rows(x: tf.Tensor) -> tf.Tensor:
    """[B, H, D] -> [B D, H]."""
    return tf.reshape(tf.transpose(x, [0, 2, 1]), [-1, x.shape[1]])


def _maps(rows: tf.Tensor, dim: int) -> tf.Tensor:
    """[B D, H] -> [B, H, D]."""
    return tf.transpose(tf.reshape(rows, [-1, dim, rows.shape[1]]), [0, 2, 1])


def _outer(rows0: tf.Tensor, rowsk: tf.Tensor, itself: bool) -> tf.Tensor:
    """[B D, F], [B D, Hk] -> [B D, Hk F]; of the fields with each other each pair once."""
    if itself:
        low, high = np.triu_indices(rows0.shape[1])
        return tf.gather(rows0, low, axis=1) * tf.gather(rows0, high, axis=1)
    products = rowsk[:, :, None] * rows0[:, None]
    return tf.reshape(products, [-1, rowsk.shape[1] * rows0.shape[1]])


def _forward(x0: tf.Tensor, xk: tf.Tensor, kernel: tf.Tensor, *, itself: bool) -> tf.Tensor:
    outer = _outer(_rows(x0), _rows(xk), itself)
    out = matmul(outer, flat(kernel, itself), transpose_b=True, dtype=x0.dtype)
    return _maps(out, x0.shape[2])


def _backward(
    x0: tf.Tensor, xk: tf.Tensor, kernel: tf.Tensor, dy: tf.Tensor, *, itself: bool
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    rows0, rowsk, above = _rows(x0), _rows(xk), _rows(dy)
    dweights = matmul(above, _outer(rows0, rowsk, itself), transpose_a=True)
    douter = matmul(above, flat(kernel, itself), dtype=stored(x0.dtype))
    wide, wide0, widek = widened(douter, rows0, rowsk)
    if itself:
        d0, dk = _of_squares(wide, wide0), tf.zeros_like(widek)
    else:
        full = tf.reshape(wide, [-1, xk.shape[1], x0.shape[1]])  # [B D, Hk, F]
        d0 = tf.reduce_sum(full * widek[:, :, None], axis=1)
        dk = tf.reduce_sum(full * wide0[:, None], axis=2)
    dim, dkernel = x0.shape[2], unfold(dweights, kernel, itself)
    return tuple(tf.cast(r, x0.dtype) for r in (_maps(d0, dim), _maps(dk, dim), dkernel))


def _of_squares(douter: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Gradient of the fields, [B D, F], from that of their products with each other."""
    fields = rows.shape[1]
    full = tf.reshape(tf.gather(douter, square_map(fields), axis=1), [-1, fields, fields])
    # A square gives its derivative twice, a mixed product to either side once.
    twofold = tf.constant(1 + np.eye(fields), full.dtype)
    return tf.reduce_sum(full * twofold * rows[:, None], axis=2)
