"""Calls of the raw native ops with arguments that nobody should give: each runs or says why not.

    python -m tests.native.fuzz [--calls N] [--seed S]

A call is one that the ops' own cases make, with a rank, a size, a type, an option or values
changed. An error is one that TensorFlow raises and that an `except` catches; what ends the process
is a bug, and the last line on the standard error is the call that did it. `make fuzz` has
AddressSanitizer watch for reads and writes out of bounds.
"""

from __future__ import annotations

import argparse
import collections
import os
import sys
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from recops import ops
from recops._core import native
from recops._core.cases import differentiated
from recops.profiling import op_bench
from tests import testing

# What a user may get; anything else is no answer to a wrong call.
EXPECTED = (tf.errors.OpError, ValueError, TypeError)
FLOATS = ("float16", "bfloat16", "float32", "float64")
OPTIONS = (-(2**62), -(2**31), -7, -1, 0, 1, 2, 3, 4, 5, 9, 2**20, 2**40, 2**62)
IDS = (-(2**31), -1, 0, 1, 2, 5, 2**31 - 1)
VALUES = (np.nan, np.inf, -np.inf, 0.0, 1e30, -1e30)
# Results of so many elements are no test of a check, but of the machine's memory.
LARGEST = 2**22


class Call:
    """A native op with arrays in place of tensors; an array of a variable is marked."""

    def __init__(self, op: str, inputs: list[Any], variables: list[bool], options: list[int]):
        self.op, self.inputs, self.variables, self.options = op, inputs, variables, options

    def __str__(self) -> str:
        arrays = [f"{a.dtype}{list(a.shape)}" for a in self.inputs]
        return f"{self.op}({', '.join(arrays)}, options={self.options})"

    def run(self) -> None:
        """The op on these arguments, eagerly, to the end of its kernel."""
        kept, tensors = [], []
        for array, variable in zip(self.inputs, self.variables):
            tensor = tf.constant(array)
            if variable:
                kept.append(tf.Variable(tensor))
                tensor = kept[-1].handle
            tensors.append(tensor)
        for result in tf.nest.flatten(native.call(self.op, *tensors, options=self.options)):
            if isinstance(result, tf.Tensor):
                result.numpy()


def recorded() -> list[Call]:
    """Each native call of the smallest cases of all ops, forward and backward."""
    calls: dict[tuple[Any, ...], Call] = {}
    plain = native.call

    def record(op: str, *inputs: Any, options: Any = ()) -> Any:
        if tf.executing_eagerly():  # A branch of a tf.cond is traced.
            made = _call_of(op, inputs, list(options))
            calls.setdefault((op, tuple(a.shape for a in made.inputs), tuple(made.options)), made)
        return plain(op, *inputs, options=options)

    native.call = record
    try:
        for case in testing.cases():
            if op_bench.takes(case, "cpp"):
                for dtype in ("float32", "bfloat16"):
                    _differentiate(case, dtype)
    finally:
        native.call = plain
    return list(calls.values())


def _call_of(op: str, inputs: Any, options: list[int]) -> Call:
    arrays, variables = [], []
    for tensor in inputs:
        tensor = tf.convert_to_tensor(tensor)
        variables.append(tensor.dtype == tf.resource)
        if variables[-1]:
            (held,) = tensor._handle_data.shape_and_type
            tensor = tf.raw_ops.ReadVariableOp(resource=tensor, dtype=held.dtype)
        arrays.append(tensor.numpy())
    return Call(op, arrays, variables, options)


def _differentiate(case: Any, dtype: str) -> None:
    """A case as it is, and with its tables as variables, which other ops read."""
    for held in (False, True):
        arrays: dict[str, Any] = tf.nest.map_structure(tf.constant, case.arrays(dtype))
        for name in ("table", "slots") if held else ():
            if name in arrays:
                arrays[name] = tf.nest.map_structure(tf.Variable, arrays[name])
        watched = differentiated(arrays, case.constant)
        with tf.GradientTape() as tape:
            tape.watch([x for x in watched if isinstance(x, tf.Tensor)])
            out = getattr(ops, case.op)(**arrays, **case.options, backend="cpp")
            # What updates variables returns nothing.
            outputs = [o for o in tf.nest.flatten(out) if o is not None]
            total = [tf.reduce_sum(tf.cast(o, tf.float32)) for o in outputs]
        if total:
            tape.gradient(total, watched)


def changed(call: Call, rng: np.random.Generator) -> Call:
    """The call with one to three things wrong, or by luck right."""
    inputs, options = list(call.inputs), list(call.options)
    for _ in range(rng.integers(1, 4)):
        which = int(rng.integers(len(inputs)))
        kind = rng.integers(7)
        if kind == 0:
            inputs[which] = _other_rank(inputs[which], rng)
        elif kind in (1, 2):
            inputs[which] = _other_size(inputs[which], rng)
        elif kind == 3:
            inputs[which] = _other_values(inputs[which], rng)
        elif kind == 4:
            # One type for all floats is what most ops ask for, so that the kernels see it.
            target = tf.as_dtype(str(rng.choice(FLOATS))).as_numpy_dtype
            inputs = [a.astype(target) if testing.is_float(a) else a for a in inputs]
        elif kind == 5:
            inputs[which] = inputs[which].reshape(-1)[:0]
        else:
            options = _other_options(options, rng)
    return Call(call.op, inputs, call.variables, options)


def _other_rank(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if array.ndim and rng.integers(2):
        return np.asarray(array[0]) if len(array) else np.zeros(array.shape[1:], array.dtype)
    return np.expand_dims(array, int(rng.integers(array.ndim + 1)))


def _other_size(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if not array.ndim or array.size > LARGEST // 4:
        return array
    axis = int(rng.integers(array.ndim))
    size = int(rng.choice([0, 1, array.shape[axis] + 1, max(array.shape[axis] - 1, 0), 17]))
    if not array.shape[axis]:
        return np.zeros([size if i == axis else n for i, n in enumerate(array.shape)], array.dtype)
    return np.take(array, np.arange(size) % array.shape[axis], axis)


def _other_values(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    array = np.array(array)
    if not array.size or array.dtype == bool:
        return ~array if array.dtype == bool else array
    choices = VALUES if testing.is_float(array) else IDS
    array.reshape(-1)[int(rng.integers(array.size))] = choices[int(rng.integers(len(choices)))]
    return array


def _other_options(options: list[int], rng: np.random.Generator) -> list[int]:
    wild = OPTIONS[int(rng.integers(len(OPTIONS)))]
    if not options or rng.integers(4) == 0:
        return [*options, wild] if rng.integers(2) else options[:-1]
    options[int(rng.integers(len(options)))] = wild
    return options


def main() -> None:
    """Make the calls, and say how many of each op ran and how many were refused."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="go on from this call")
    parser.add_argument("--only", action="store_true", help="that one call, and what it says")
    asked = parser.parse_args()
    seeds = recorded()
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for i in range(asked.first, asked.first + 1 if asked.only else asked.calls):
        rng = np.random.default_rng([asked.seed, i])
        call = changed(seeds[int(rng.integers(len(seeds)))], rng)
        print(f"\r{i} {call}\x1b[K", end="", file=sys.stderr, flush=True)
        try:
            call.run()
            counts[call.op]["ran"] += 1
        except EXPECTED as error:
            counts[call.op]["refused"] += 1
            if asked.only:
                print(error)
    print(file=sys.stderr)
    for op, count in sorted(counts.items()):
        print(f"{op:28} {count['ran']:6} ran {count['refused']:6} refused")
    total = sum(counts.values(), collections.Counter())
    print(f"{'all':28} {total['ran']:6} ran {total['refused']:6} refused")


if __name__ == "__main__":
    main()
