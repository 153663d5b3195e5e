"""Dense layer: several axes, edges, 16-bit products, and what a wrong argument is told."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recops import ops

BACKENDS = ("cpp", "xla", "reference")
BFLOAT16 = tf.bfloat16.as_numpy_dtype


def _inputs(rows: int, n: int, units: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    x, kernel = rng.normal(size=(rows, n)), rng.normal(size=(n, units))
    return tuple(a.astype(np.float32) for a in (x, kernel, rng.normal(size=units)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "linear", None])
def test_it_is_the_keras_layer(activation: str | None, backend: str) -> None:
    x, kernel, bias = _inputs(7, 5, 3)
    layer = tf.keras.layers.Dense(3, activation)
    layer.build((None, 5))
    layer.set_weights([kernel, bias])
    got = ops.dense(x, kernel, bias, activation, backend=backend)
    np.testing.assert_allclose(got, layer(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "sizes", [(1, 1, 1), (31, 33, 17), (64, 64, 64), (65, 95, 129), (300, 20, 5)]
)
def test_sizes_that_fill_no_tile(sizes: tuple[int, int, int], dtype: str, backend: str) -> None:
    """Small whole numbers: every product and sum is exact in either dtype."""
    rows, n, units = sizes
    rng = np.random.default_rng(1)
    x, kernel = (rng.integers(-2, 3, size=s).astype(np.float32) for s in ((rows, n), (n, units)))
    dy = rng.integers(-1, 2, size=(rows, units)).astype(np.float32)
    arguments = [tf.cast(a, dtype) for a in (x, kernel)]
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        y = ops.dense(*arguments, backend=backend)
    gradients = tape.gradient(y, arguments, tf.cast(dy, dtype))
    exact = [x @ kernel, dy @ kernel.T, x.T @ dy]
    for got, want in zip([y, *gradients], exact):
        rounded = want.astype(BFLOAT16) if dtype == "bfloat16" else want
        np.testing.assert_array_equal(tf.cast(got, "float32"), rounded.astype(np.float32))


def test_a_sum_over_many_rows_is_the_same_on_any_number_of_threads() -> None:
    x, kernel, bias = (tf.cast(a, tf.bfloat16) for a in _inputs(9000, 70, 33))

    def gradients() -> list[np.ndarray]:
        with tf.GradientTape() as tape:
            tape.watch([kernel, bias])
            y = ops.dense(x, kernel, bias, "sigmoid", backend="cpp")
        return [tf.cast(g, "float32").numpy() for g in tape.gradient(y, [kernel, bias])]

    first, again = gradients(), gradients()
    wide = [tf.cast(a, tf.float64) for a in (x, kernel, bias)]
    with tf.GradientTape() as tape:
        tape.watch(wide)
        y = ops.dense(*wide, "sigmoid", backend="reference")
    for got, repeated, want in zip(first, again, tape.gradient(y, wide[1:])):
        np.testing.assert_array_equal(got, repeated)
        np.testing.assert_allclose(got, want, atol=0.01 * np.abs(want).max())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("jit", [False, True])
def test_empty_batch_has_zero_gradients(jit: bool, dtype: str, backend: str) -> None:
    x, kernel, bias = (tf.cast(a, dtype) for a in _inputs(0, 5, 3))

    @tf.function(jit_compile=jit)
    def step(x, kernel, bias):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel, bias])
            y = ops.dense(x, kernel, bias, "relu", backend=backend)
        return y, tape.gradient(y, [x, kernel, bias])

    y, (dx, *rest) = step(x, kernel, bias)
    assert y.shape == (0, 3)
    assert dx.shape == (0, 5)
    assert not any(np.any(tf.cast(g, "float32")) for g in rest)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_nan_stays_in_its_row(dtype: str, backend: str) -> None:
    x, kernel, bias = _inputs(40, 6, 4)
    x[17, 2] = np.nan
    y = ops.dense(*(tf.cast(a, dtype) for a in (x, kernel, bias)), "relu", backend=backend)
    bad = np.isnan(tf.cast(y, "float32"))
    assert bad[17].all()
    assert not np.delete(bad, 17, axis=0).any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_unknown_sizes_before_the_last_axis(backend: str) -> None:
    _, kernel, bias = _inputs(1, 5, 3)

    @tf.function(input_signature=[tf.TensorSpec([None, None, 5])])
    def call(x):
        y = ops.dense(x, kernel, bias, "tanh", backend=backend)
        assert y.shape.as_list() == [None, None, 3]
        return y

    x = np.random.default_rng(2).normal(size=(4, 7, 5)).astype(np.float32)
    np.testing.assert_allclose(call(x), np.tanh(x @ kernel + bias), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_precision_sums_in_float32(backend: str) -> None:
    """A sum of 2,048 from 2,049 ones and one below, which float16 cannot count to."""
    x, kernel = np.ones((1, 2050), np.float16), np.ones((2050, 1), np.float16)
    kernel[0] = -1  # 2048 from 2049 ones
    got = ops.dense(x, kernel, backend=backend)
    np.testing.assert_array_equal(got, [[2048]])


def test_wrong_arguments_are_named() -> None:
    x, kernel, bias = _inputs(2, 4, 3)
    with pytest.raises(ValueError, match=r"kernel must have shape \[4, U\], got \[4, 3, 1\]"):
        ops.dense(x, kernel[:, :, None])
    with pytest.raises(ValueError, match=r"kernel must have shape \[4, U\], got \[3, 4\]"):
        ops.dense(x, kernel.T)
    with pytest.raises(ValueError, match=r"bias must have shape \[3\], got \[2\]"):
        ops.dense(x, kernel, bias[:2])
    with pytest.raises(ValueError, match=r"kernel must have dtype float32.*float64"):
        ops.dense(x, kernel.astype(np.float64))
    with pytest.raises(ValueError, match=r"activation must be one of .*got 'gelu'"):
        ops.dense(x, kernel, bias, "gelu")
    with pytest.raises(ValueError, match=r"x must have shape \[\.\.\., N\], got \[\]"):
        ops.dense(np.float32(1), kernel)
