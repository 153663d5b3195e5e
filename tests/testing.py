"""What the generated tests share: cases, oracles, one tolerance table, gradients."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from recops import ops
from recops._core import dispatch
from recops._core.cases import Case, differentiated, select

DTYPES = ("float16", "bfloat16", "float32", "float64")

# Largest error, relative to the largest magnitude of the expected array. A 16-bit result is judged
# by the plain formula in the same dtype instead, times these factors.
TOLERANCE = {
    "float32": {"value": 2e-6, "gradient": 1e-5},
    "float64": {"value": 1e-12, "gradient": 1e-7},
}
FACTOR_16 = {"value": 2.0, "gradient": 3.0}
ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8}


def room_module(op: str, stem: str) -> Any:
    """`cases`, `stock`, ... of the room that holds an op."""
    return dispatch.rooms()[op].file(stem)


def oracle(op: str) -> Callable[..., Any]:
    """NumPy float64 formula of an op."""
    return importlib.import_module(f"tests.oracles.{dispatch.rooms()[op].name}").ORACLES[op]


def cases(tag: str = "test") -> list[Case]:
    """All cases with a tag, of all registered ops."""
    return [
        case
        for op in sorted(dispatch.rooms())
        for case in select(room_module(op, "cases").CASES, tag, op)
    ]


def wide(arrays: Any) -> Any:
    """The same values in float64."""
    return tf.nest.map_structure(lambda a: a.astype(np.float64) if is_float(a) else a, arrays)


# Arguments whose first axis is not the batch, though its size may equal it in a small case.
WEIGHTS = {
    "recurrent_kernel",
    "kernel",
    "kernels",
    "bias",
    "biases",
    "projection",
    "table",
    "offsets",
}


def signature(arrays: Mapping[str, Any], batch: int | None = None) -> dict[str, Any]:
    """What a graph is told of arguments: all their sizes, or not the axis that has `batch` rows."""

    def spec(name: str, value: Any) -> tf.TensorSpec:
        unknown = name not in WEIGHTS and value.shape[:1] == (batch,)
        shape = (None, *value.shape[1:]) if unknown else value.shape
        return tf.TensorSpec(shape, value.dtype)

    return {
        name: tf.nest.map_structure(functools.partial(spec, name), value)
        for name, value in arrays.items()
    }


def is_float(array: Any) -> bool:
    """Whether an array or tensor holds floats; NumPy files bfloat16 under kind V."""
    return tf.as_dtype(array.dtype).is_floating


def cotangents(outputs: list[np.ndarray]) -> list[np.ndarray]:
    """Fixed weights of each output in the scalar that gradients are taken of.

    They are exact in every dtype, so that an op is not blamed for the rounding of what it is given.
    """
    rng = np.random.default_rng(7)
    exact = tf.bfloat16.as_numpy_dtype
    return [rng.normal(size=np.shape(o)).astype(exact).astype(np.float64) for o in outputs]


def numeric_gradient(
    fn: Callable[..., Any],
    arrays: Mapping[str, Any],
    options: Mapping[str, Any],
    constant: Collection[str] = (),
) -> list[np.ndarray]:
    """Central differences of the weighted sum of the outputs, for every float array, in float64."""
    arrays = tf.nest.map_structure(np.array, wide(dict(arrays)))
    weights = cotangents(tf.nest.flatten(fn(**arrays, **options)))

    def scalar() -> float:
        outputs = tf.nest.flatten(fn(**arrays, **options))
        return float(sum(np.sum(w * o) for w, o in zip(weights, outputs)))

    step, gradients = 1e-6, []
    for array in differentiated(arrays, constant):
        gradient = np.zeros_like(array)
        for index in np.ndindex(array.shape):
            kept = array[index]
            array[index] = kept + step
            above = scalar()
            array[index] = kept - step
            gradient[index] = (above - scalar()) / (2 * step)
            array[index] = kept
        gradients.append(gradient)
    return gradients


@functools.cache
def expected(op: str, name: str, dtype: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Oracle outputs and gradients on the inputs of a case as rounded to `dtype`."""
    case = next(c for c in cases() if c.op == op and c.name == name)
    arrays = wide(case.arrays(dtype))
    outputs = tf.nest.flatten(oracle(op)(**arrays, **case.options))
    return outputs, numeric_gradient(oracle(op), arrays, case.options, case.constant)


def run(
    fn: Callable[..., Any],
    arrays: Mapping[str, Any],
    mode: str = "eager",
    like: list[np.ndarray] | None = None,
    constant: Collection[str] = (),
) -> tuple[list[Any], list[Any]]:
    """Outputs of `fn(**arrays)` and the gradients of their weighted sum, as float64 arrays.

    `like` has the shapes of the outputs; without it an eager run finds them out.
    """
    structure = {name: tf.nest.map_structure(tf.constant, value) for name, value in arrays.items()}
    weights = cotangents(like or [o.numpy() for o in tf.nest.flatten(fn(**structure))])

    def step(tensors: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
        floats = differentiated(tensors, constant)
        with tf.GradientTape() as tape:
            tape.watch(floats)
            outputs = tf.nest.flatten(fn(**tensors))
            total = tf.add_n(
                [
                    tf.reduce_sum(tf.cast(o, tf.float64) * tf.constant(w))
                    for o, w in zip(outputs, weights)
                ]
            )
        return outputs, [tf.convert_to_tensor(g) for g in tape.gradient(total, floats)]

    if mode != "eager":
        step = tf.function(step, jit_compile=mode == "jit")
    outputs, gradients = step(structure)
    return [_plain(o) for o in outputs], [_plain(g) for g in gradients]


def _plain(tensor: tf.Tensor) -> np.ndarray:
    return tf.cast(tensor, tf.float64).numpy()


def error(got: np.ndarray, want: np.ndarray) -> float:
    """Largest difference, relative to the largest expected magnitude."""
    assert got.shape == want.shape, f"shape {got.shape}, expected {want.shape}"
    if not want.size:
        return 0.0
    return float(np.max(np.abs(got - want)) / max(np.max(np.abs(want)), 1e-30))


def bound(dtype: str, kind: str, plain: float | None) -> float:
    """Allowed error: from the table, or for 16 bit a multiple of the plain formula's error.

    The plain formula may by luck have no error at all, so one rounding is always allowed.
    """
    if dtype in TOLERANCE:
        return TOLERANCE[dtype][kind]
    assert plain is not None
    return max(FACTOR_16[kind] * plain, ROUNDING[dtype])


def public(case: Case, backend: str) -> Callable[..., Any]:
    """The public op with the case's options and a backend."""
    return functools.partial(getattr(ops, case.op), **case.options, backend=backend)
