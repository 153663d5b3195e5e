"""What the paths share: how they compile, accumulate, and are differentiated twice."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core import device

HALF = (tf.float16, tf.bfloat16)


def jit(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` as one XLA program; inside a jitted function it becomes part of the outer program.

    Each kind of device has a program of its own: `fn` may take other forms there.
    """
    programs = {kind: tf.function(fn, jit_compile=True, autograph=False) for kind in device.KINDS}

    @functools.wraps(fn)
    def run(*args: Any, **options: Any) -> Any:
        return programs[device.kind()](*args, **options)

    return run


def jit_forward(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`jit` for the forward of a `tf.custom_gradient`, which tapes shall not look into.

    An eager tape that does makes the program return its intermediate results as well.
    """
    program = jit(fn)

    @functools.wraps(fn)
    def run(*args: Any) -> Any:
        return program(*tf.nest.map_structure(_unrecorded, args))

    return run


def _unrecorded(value: Any) -> Any:
    return tf.stop_gradient(value) if _is_float(value) else value


def twice(backward: Callable[..., Any], formula: Callable[..., Any]) -> Callable[..., list[Any]]:
    """A gradient by hand with a gradient of its own, which is that of the formula.

    `backward(*inputs, *kept, *cotangents)` gives the gradient of each float of `inputs`, in order;
    `formula(*inputs)` is the op by TensorFlow's own ops. Differentiated as it stands, a backward
    would take what its forward kept for constants, and a native kernel has no gradient at all.

    Returns: a function of the tuples (inputs, kept, cotangents) that gives the gradients in a list.
    """

    def gradient(inputs: Any, kept: Any, cotangents: Any) -> list[Any]:
        structure = (tuple(inputs), tuple(kept), tuple(map(tf.convert_to_tensor, cotangents)))

        @tf.custom_gradient
        def first(*flat: tf.Tensor) -> tuple[list[Any], Callable[..., Any]]:
            unseen = [_unrecorded(tensor) for tensor in flat]
            inputs, kept, cotangents = tf.nest.pack_sequence_as(structure, unseen)

            def second(*upstream: Any) -> list[Any]:
                return _second(formula, structure, flat, upstream)

            return tf.nest.flatten(backward(*inputs, *kept, *cotangents)), second

        return first(*tf.nest.flatten(structure))

    return gradient


def _second(formula: Callable[..., Any], structure: Any, flat: Any, upstream: Any) -> list[Any]:
    """Gradients of all tensors of a gradient's `structure`, None of those that it only kept."""
    # Apart from each other, also where one tensor is given twice.
    flat = [tf.identity(tensor) if _is_float(tensor) else tensor for tensor in flat]
    inputs, kept, cotangents = tf.nest.pack_sequence_as(structure, flat)
    floats = [tensor for tensor in tf.nest.flatten(inputs) if _is_float(tensor)]
    sources = [*floats, *cotangents]
    with tf.GradientTape() as outer:
        outer.watch(sources)
        with tf.GradientTape() as inner:
            inner.watch(floats)
            outputs = tf.nest.flatten(formula(*inputs))
        gradients = inner.gradient(
            outputs, floats, output_gradients=list(cotangents), unconnected_gradients="zero"
        )
    # The tape trusts that both are as many.
    arrived = [upon for _, upon in zip(gradients, upstream, strict=True)]
    found = iter(outer.gradient(gradients, sources, output_gradients=arrived))
    of_inputs = [next(found) if _is_float(t) else None for t in tf.nest.flatten(inputs)]
    return [*of_inputs, *[None] * len(tf.nest.flatten(kept)), *found]


def accumulate(fn: Callable[..., Any], narrow: int | None = None) -> Callable[..., Any]:
    """Run `fn` on tensors of at least 32 bits and cast what it returns back.

    The first float argument decides. Of the results the first `narrow` are cast back to its dtype
    (None: all); the rest, such as statistics for a backward, stay wide. Keyword arguments are
    static options and pass through.
    """

    @functools.wraps(fn)
    def wide(*args: Any, **options: Any) -> Any:
        dtype = next(a.dtype for a in tf.nest.flatten(args) if _is_float(a))
        if dtype not in HALF:
            return fn(*args, **options)
        args = tf.nest.map_structure(lambda a: tf.cast(a, tf.float32) if _is_float(a) else a, args)
        results = fn(*args, **options)
        kept_wide = () if narrow is None else results[narrow:]
        results = results if narrow is None else results[:narrow]
        cast = tf.nest.map_structure(lambda r: tf.cast(r, dtype) if _is_float(r) else r, results)
        return cast if narrow is None else (*cast, *kept_wide)

    return wide


def widened(*tensors: tf.Tensor) -> list[tf.Tensor]:
    """Tensors of at least 32 bits, for a path that chooses itself what it keeps in 16."""
    return [tf.cast(t, tf.float32) if t.dtype in HALF else t for t in tensors]


def _is_float(value: Any) -> bool:
    return isinstance(value, tf.Tensor) and value.dtype.is_floating
