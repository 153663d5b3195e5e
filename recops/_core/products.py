"""Products of 16-bit operands with sums in 32 bits, for programs that XLA compiles.

A matrix unit multiplies 16 bits and adds in 32. `tf.matmul` of 16-bit tensors has no 32-bit
result, and of widened ones no 16-bit operands. These have both, where XLA compiles for a GPU;
elsewhere they widen the operands, whose products come out the same.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from recops._core import device, xla_ops
from recops._core.numerics import HALF


def einsum(equation: str, a: tf.Tensor, b: tf.Tensor, dtype: tf.DType | None = None) -> tf.Tensor:
    """`tf.einsum` of two operands of one dtype: "btne,bsne->bnts".

    Every axis is one of the result, or of both operands. The result is float32 for operands of 16
    bits (of `dtype`, if it is given: theirs, to be rounded where it is written), else of their
    dtype. In a gradient what arrives is rounded to the dtype of the operands before it is
    multiplied.

    Raises: ValueError for another equation, or for operands of different dtypes.
    """
    left, right, out = _axes(equation)
    if a.dtype != b.dtype:
        raise ValueError(
            f"einsum: argument `b` must be of the dtype of `a`, {a.dtype.name}, got "
            f"{b.dtype.name}; cast the wider one"
        )
    if a.dtype not in HALF:
        return tf.einsum(equation, a, b)
    wanted = tf.float32 if dtype is None else dtype

    @tf.custom_gradient
    def op(a: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, Callable[..., list[tf.Tensor]]]:
        def gradient(above: tf.Tensor) -> list[tf.Tensor]:
            above = tf.cast(above, a.dtype)
            return [
                einsum(f"{out},{right}->{left}", above, b, a.dtype),
                einsum(f"{left},{out}->{right}", a, above, b.dtype),
            ]

        return _product(left, right, out, a, b, wanted), gradient

    return op(a, b)


def matmul(
    a: tf.Tensor,
    b: tf.Tensor,
    transpose_a: bool = False,
    transpose_b: bool = False,
    dtype: tf.DType | None = None,
) -> tf.Tensor:
    """`tf.matmul` as `einsum` computes it: [..., n, m] x [..., m, k], the leading axes as many."""
    if a.dtype == b.dtype and a.dtype not in HALF:
        return tf.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)
    batch = "abcdefg"[: a.shape.rank - 2]
    left = batch + ("mn" if transpose_a else "nm")
    right = batch + ("km" if transpose_b else "mk")
    return einsum(f"{left},{right}->{batch}nk", a, b, dtype)


def stored(dtype: tf.DType) -> tf.DType:
    """The dtype of sums that are large, and are read again: scores, logits and their gradients.

    bfloat16 has room for all that float32 has; float16 has not, and they stay float32.
    """
    return tf.float32 if dtype == tf.float16 else dtype


def _axes(equation: str) -> tuple[str, str, str]:
    operands, _, out = equation.replace(" ", "").partition("->")
    left, _, right = operands.partition(",")
    once = all(axes.isalpha() and len(set(axes)) == len(axes) for axes in (left, right, out))
    alone = set(left) ^ set(right)
    if not once or not alone <= set(out) <= set(left + right):
        raise ValueError(
            f"einsum: argument `equation` must name each axis of two operands once, and each of "
            f"one operand alone in the result, as 'btne,bsne->bnts' does, got {equation!r}"
        )
    return left, right, out


def _product(
    left: str, right: str, out: str, a: tf.Tensor, b: tf.Tensor, dtype: tf.DType
) -> tf.Tensor:
    if not (device.form(gpu=True, cpu=False) and xla_ops.can("dot_v2")):
        wide = tf.einsum(f"{left},{right}->{out}", tf.cast(a, tf.float32), tf.cast(b, tf.float32))
        return tf.cast(wide, dtype)
    batch = [axis for axis in left if axis in right and axis in out]
    summed = [axis for axis in left if axis in right and axis not in out]
    made = xla_ops.dot(
        a,
        b,
        ([left.index(axis) for axis in batch], [right.index(axis) for axis in batch]),
        ([left.index(axis) for axis in summed], [right.index(axis) for axis in summed]),
        dtype,
    )
    came = "".join(
        [*batch, *(x for x in left if x not in right), *(x for x in right if x not in left)]
    )
    sizes = dict(zip(left + right, [*a.shape, *b.shape]))
    sizes |= {axis: size for axis, size in zip(left, a.shape) if size is not None}
    made.set_shape([sizes[axis] for axis in came])
    return made if came == out else tf.transpose(made, [came.index(axis) for axis in out])
