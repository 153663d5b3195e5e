"""Generated: gradients of gradients, by every backend those of the reference, or a clear error."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from recops import ops
from recops._core import dispatch
from recops._core.cases import Case, differentiated
from recops.profiling import op_bench
from tests import testing

# An update has no gradient at all.
CASES = [case for case in testing.cases() if case.op != "row_update"]
FAST = [name for name in dispatch.CONCRETE if name != "reference"]
# What a kernel says that is differentiated once only.
REFUSED = {("embedding_bag", "cpp"): "embedding_bag with weights has no gradient of second order"}


def of_case(case: Case) -> str:
    return f"{case.op}-{case.name}"


def second(case: Case, backend: str, mode: str) -> list[np.ndarray]:
    """The gradient of a sum over the gradient of a sum over the outputs, none of them linear."""
    fn = testing.public(case, backend)

    def step(tensors: dict[str, Any]) -> list[tf.Tensor]:
        sources = differentiated(tensors, case.constant)
        with tf.GradientTape() as outer:
            outer.watch(sources)
            with tf.GradientTape() as inner:
                inner.watch(sources)
                outputs = tf.nest.flatten(fn(**tensors))
                total = tf.add_n([tf.reduce_sum(tf.sin(out + 0.3)) for out in outputs])
            first = [tf.convert_to_tensor(g) for g in inner.gradient(total, sources)]
            total = tf.add_n([tf.reduce_sum(tf.cos(1.3 * g) * g) for g in first])
        gradients = outer.gradient(total, sources, unconnected_gradients="zero")
        return [tf.convert_to_tensor(gradient) for gradient in gradients]

    if mode != "eager":
        step = tf.function(step, jit_compile=mode == "jit")
    return [g.numpy() for g in step(tf.nest.map_structure(tf.constant, case.arrays("float64")))]


@functools.cache
def wanted(op: str, name: str) -> list[np.ndarray]:
    case = next(c for c in CASES if (c.op, c.name) == (op, name))
    return second(case, "reference", "eager")


def check(case: Case, backend: str, mode: str) -> None:
    if not op_bench.takes(case, backend):
        pytest.skip(f"{backend} does not run {case.op} on {case.name}")
    refusal = REFUSED.get((case.op, backend)) if "weights" in case.arrays() else None
    if refusal is not None:
        with pytest.raises(Exception, match=refusal):
            second(case, backend, mode)
        return
    for got, want in zip(second(case, backend, mode), wanted(case.op, case.name), strict=True):
        assert testing.error(got, want) < testing.TOLERANCE["float64"]["gradient"]


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("case", CASES, ids=of_case)
def test_second_order(case: Case, backend: str) -> None:
    check(case, backend, "eager")


FIRST = [next(c for c in CASES if c.op == op) for op in sorted({c.op for c in CASES})]


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("case", FIRST, ids=of_case)
def test_second_order_in_a_graph(case: Case, backend: str) -> None:
    check(case, backend, "graph")


# XLA takes minutes for the gradient of the gradient of a loop.
LOOPS = {"dynamic_gru"}


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("case", [c for c in FIRST if c.op not in LOOPS], ids=of_case)
def test_second_order_in_a_jitted_step(case: Case, backend: str) -> None:
    check(case, backend, "jit")


@pytest.mark.parametrize("backend", dispatch.CONCRETE)
def test_second_order_of_an_input_that_is_given_twice(backend: str) -> None:
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 3, 2, 2)))
    results = []
    for name in ("reference", backend):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = tf.reduce_sum(ops.multi_head_attention(x, x, x, backend=name) ** 2)
            total = tf.reduce_sum(inner.gradient(y, x) ** 2)
        results.append(outer.gradient(total, x).numpy())
    np.testing.assert_allclose(results[1], results[0], rtol=1e-9)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_second_order_in_16_bits(backend: str, dtype: str) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 2, 2))
    results = {}
    for name, kind in ((backend, dtype), ("reference", "float64")):
        q = tf.cast(x, kind)
        with tf.GradientTape() as outer:
            outer.watch(q)
            with tf.GradientTape() as inner:
                inner.watch(q)
                y = tf.reduce_sum(tf.sin(ops.multi_head_attention(q, q, q, backend=name)))
            total = tf.reduce_sum(inner.gradient(y, q) ** 2)
        gradient = outer.gradient(total, q)
        assert gradient.dtype == q.dtype
        results[kind] = tf.cast(gradient, tf.float64).numpy()
    assert testing.error(results[dtype], results["float64"]) < 40 * testing.ROUNDING[dtype]
