"""Products of 16 bits with sums in 32: values, gradients, and the HLO that a GPU would get."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recops._core import device, products, xla_ops
from tests import testing
from tests.lowering import dots

B, T, S, N, E = 3, 5, 7, 2, 33
HALF = ("float16", "bfloat16")
EQUATIONS = {
    "btne,bsne->bnts": ((B, T, N, E), (B, S, N, E)),
    "bnts,bsne->btne": ((B, N, T, S), (B, S, N, E)),
    "bte,es->bts": ((B, T, E), (E, S)),
    "be,be->b": ((B, E), (B, E)),
    "te,se->st": ((T, E), (S, E)),
}


def arrays(equation: str, dtype: str) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        rng.normal(size=shape).astype(tf.as_dtype(dtype).as_numpy_dtype)
        for shape in EQUATIONS[equation]
    ]


def both_ways(equation: str, result: tf.DType | None = None):
    """The product and the gradients of its sum of squares."""

    def run(a: tf.Tensor, b: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch([a, b])
            out = products.einsum(equation, a, b, result)
            loss = tf.reduce_sum(tf.square(tf.cast(out, tf.float64))) / 2
        return [out, *tape.gradient(loss, [a, b])]

    return run


@pytest.mark.parametrize("equation", EQUATIONS)
@pytest.mark.parametrize("dtype", testing.DTYPES)
@pytest.mark.parametrize("place", ["eager", "CPU", "GPU"])
def test_values_and_gradients_are_those_of_float64(equation: str, dtype: str, place: str) -> None:
    a, b = arrays(equation, dtype)
    fn = both_ways(equation)
    if place != "eager":
        fn = tf.function(fn, jit_compile=True)
    with device.running_on("CPU" if place == "eager" else place):
        out, da, db = fn(tf.constant(a), tf.constant(b))
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    want = np.einsum(equation, wide_a, wide_b)
    operands, _, result = equation.partition("->")
    left, _, right = operands.partition(",")
    # Exact products of 16 bits are added in 32: no more is lost than float32 loses.
    close = testing.TOLERANCE["float64" if dtype == "float64" else "float32"]["value"]
    assert testing.error(out.numpy(), want) <= close
    assert out.dtype == (tf.float32 if dtype in HALF else dtype)
    rounding = 2 * testing.ROUNDING[dtype] if dtype in HALF else 4 * close
    for got, back, other in (
        (da, f"{result},{right}->{left}", wide_b),
        (db, f"{result},{left}->{right}", wide_a),
    ):
        assert got.dtype == dtype
        assert (
            testing.error(got.numpy().astype(np.float64), np.einsum(back, want, other)) <= rounding
        )


@pytest.mark.parametrize("dtype", testing.DTYPES)
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True)])
def test_matmul_is_that_of_tensorflow(dtype: str, turned: tuple[bool, bool]) -> None:
    rng = np.random.default_rng(1)
    a, b = (tf.constant(rng.normal(size=(2, 3, 4, 4)), dtype) for _ in range(2))
    got = products.matmul(a, b, *turned)
    want = tf.matmul(tf.cast(a, tf.float64), tf.cast(b, tf.float64), *turned).numpy()
    assert testing.error(tf.cast(got, tf.float64).numpy(), want) <= 1e-6


def test_a_gradient_has_a_gradient() -> None:
    a, b = (tf.constant(x) for x in arrays("te,se->st", "bfloat16"))
    with tf.GradientTape() as outer:
        outer.watch(b)
        with tf.GradientTape() as inner:
            inner.watch(a)
            out = products.einsum("te,se->st", a, b)
        da = inner.gradient(out, a)  # the sum of b over its rows, for every row of a
    np.testing.assert_allclose(tf.cast(outer.gradient(da, b), tf.float32), np.full((S, E), T))


@pytest.mark.parametrize(("dtype", "short"), [("float16", "f16"), ("bfloat16", "bf16")])
@pytest.mark.parametrize("equation", EQUATIONS)
def test_a_gpu_gets_16_bits(equation: str, dtype: str, short: str) -> None:
    """XLA's own text, whatever the platform: that for a GPU is read where the ops are tested."""
    values = [tf.constant(x) for x in arrays(equation, dtype)]

    def of(place: str, result: str | None = None) -> list[tuple[str, list[str]]]:
        traced = tf.function(both_ways(equation, result and tf.as_dtype(result)), jit_compile=True)
        with device.running_on(place):
            return dots(traced.experimental_get_compiler_ir(*values)(stage="hlo"))

    both = [short, short]
    assert of("GPU") == [("f32", both), (short, both), (short, both)]
    assert of("GPU", dtype) == [(short, both)] * 3
    assert all(operands == ["f32", "f32"] for _, operands in of("CPU"))


def test_without_the_op_of_xla_operands_are_widened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xla_ops, "_generated", lambda: None)
    values = [tf.constant(x) for x in arrays("te,se->st", "bfloat16")]
    traced = tf.function(both_ways("te,se->st"), jit_compile=True)
    with device.running_on("GPU"):
        hlo = traced.experimental_get_compiler_ir(*values)(stage="hlo")
    assert all(operands == ["f32", "f32"] for _, operands in dots(hlo))


def test_tensorflow_has_the_ops_of_xla_that_are_asked_for() -> None:
    """Of TensorFlow 2.15 and 2.21 both are known; without them a GPU gets wide products again."""
    found: list[bool] = []

    def ask() -> tf.Tensor:
        found.extend(xla_ops.can(name) for name in ("dot_v2", "optimization_barrier"))
        return tf.zeros([])

    tf.function(ask, jit_compile=True)()
    assert found == [True, True]
    ask()
    assert found[2:] == [False, False]  # none of them runs where XLA does not compile


def test_a_barrier_stands_in_the_program() -> None:
    """Where XLA compiles for a CPU it takes it out before it looks for what is there twice."""
    a = tf.constant([1.0, 2.0])
    fn = tf.function(lambda a: tf.sin(xla_ops.barrier(a, a)[0]), jit_compile=True)
    assert "opt-barrier" in fn.experimental_get_compiler_ir(a)(stage="hlo")
    np.testing.assert_allclose(fn(a), np.sin(a))
    np.testing.assert_array_equal(xla_ops.barrier(a)[0], a)


@pytest.mark.parametrize("equation", ["ab,bc->a", "ab,bc->abcd", "aa,ab->ab", "ab->ba", "a.,b->ab"])
def test_an_equation_that_is_no_product_says_so(equation: str) -> None:
    with pytest.raises(ValueError, match="einsum: argument `equation` must name each axis"):
        products.einsum(equation, tf.zeros([2, 2]), tf.zeros([2, 2]))


def test_operands_of_two_dtypes_say_so() -> None:
    with pytest.raises(
        ValueError, match="argument `b` must be of the dtype of `a`, bfloat16, got f"
    ):
        products.einsum("ab,bc->ac", tf.zeros([2, 2], tf.bfloat16), tf.zeros([2, 2]))
