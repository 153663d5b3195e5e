"""Attentional pooling: what its weights must be, edges, and what a wrong argument is told."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recops import ops

BACKENDS = ("cpp", "xla", "reference")


def _inputs(b: int, f: int, d: int, a: int) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    shapes = ((b, f, d), (d, a), (a,), (a,))
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_are_a_distribution_and_pool_the_products(backend: str) -> None:
    inputs = _inputs(3, 5, 3, 4)
    pooled, weights = ops.attentional_pooling(*inputs, backend=backend)
    np.testing.assert_allclose(tf.reduce_sum(weights, axis=1), np.ones(3), rtol=1e-6)
    assert np.all(weights.numpy() > 0)
    products = ops.pairwise_hadamard(inputs[0])
    want = tf.reduce_sum(weights[:, :, None] * products, axis=1)
    np.testing.assert_allclose(pooled, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_projection_averages_the_products(backend: str) -> None:
    x, kernel, bias, projection = _inputs(3, 5, 7, 2)
    pooled, weights = ops.attentional_pooling(x, kernel, bias, 0 * projection, backend=backend)
    np.testing.assert_allclose(weights, np.full((3, 10), 0.1), rtol=1e-6)
    np.testing.assert_allclose(10 * pooled, ops.bi_interaction(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_pair_has_weight_one_and_teaches_the_network_nothing(backend: str) -> None:
    tensors = [tf.constant(a) for a in _inputs(2, 2, 3, 4)]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        pooled, weights = ops.attentional_pooling(*tensors, backend=backend)
    x = tensors[0].numpy()
    np.testing.assert_array_equal(weights, np.ones((2, 1)))
    np.testing.assert_allclose(pooled, x[:, 0] * x[:, 1], rtol=1e-6)
    dx, *rest = tape.gradient(pooled, tensors)
    np.testing.assert_allclose(dx, x[:, ::-1], rtol=1e-6)
    for gradient in rest:
        np.testing.assert_allclose(gradient, np.zeros(gradient.shape), atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_have_a_gradient_of_their_own(backend: str) -> None:
    """Their sum is 1 whatever the inputs, so its gradient is 0; that of one weight is not."""
    tensors = [tf.constant(0.3 * a) for a in _inputs(2, 4, 3, 5)]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(tensors)
        weights = ops.attentional_pooling(*tensors, backend=backend)[1]
        total, first = tf.reduce_sum(weights), tf.reduce_sum(weights[:, 0])
    for gradient in tape.gradient(total, tensors):
        np.testing.assert_allclose(gradient, np.zeros(gradient.shape), atol=1e-5)
    assert all(np.any(np.abs(g) > 1e-4) for g in tape.gradient(first, tensors))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_large_scores_stay_finite(backend: str, dtype: str) -> None:
    inputs = [tf.constant(a.astype(dtype)) for a in _inputs(3, 5, 3, 4)]
    inputs[3] *= tf.constant(3e4, dtype)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = ops.attentional_pooling(*inputs, backend=backend)
    assert all(np.all(np.isfinite(o)) for o in outputs)
    np.testing.assert_allclose(tf.reduce_sum(outputs[1], axis=1), np.ones(3), rtol=1e-3)
    assert np.all(np.isfinite(tape.gradient(outputs, inputs)[0]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_batch_has_zero_gradients(backend: str) -> None:
    tensors = [tf.constant(a) for a in _inputs(0, 3, 5, 4)]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        outputs = ops.attentional_pooling(*tensors, backend=backend)
    assert [tuple(o.shape) for o in outputs] == [(0, 5), (0, 3)]
    dx, *rest = tape.gradient(outputs, tensors)
    assert dx.shape == (0, 3, 5)
    assert all(not np.any(g) for g in rest)


@pytest.mark.parametrize("shape", [(1, 26, 16, 8), (15, 3, 17, 7), (33, 7, 5, 13), (17, 4, 1, 1)])
def test_native_rows_and_sizes_that_fill_no_vector(shape: tuple[int, int, int, int]) -> None:
    """Rows, dimensions and units beside the multiples that the kernel works in."""
    got = []
    for backend in ("cpp", "reference"):
        tensors = [tf.constant(0.5 * a) for a in _inputs(*shape)]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            pooled, weights = ops.attentional_pooling(*tensors, backend=backend)
            loss = tf.reduce_sum(pooled**2) + tf.reduce_sum(weights**3)
        got.append([pooled, weights, *tape.gradient(loss, tensors)])
    for fast, plain in zip(*got):
        np.testing.assert_allclose(fast, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_of_nan_stays_alone(backend: str) -> None:
    x, *network = _inputs(5, 4, 3, 8)
    want = ops.attentional_pooling(x, *network, backend=backend)
    x[2, 1, 0] = np.nan
    for got, clean in zip(ops.attentional_pooling(x, *network, backend=backend), want):
        assert np.all(np.any(np.isnan(got), axis=1) == [False, False, True, False, False])
        others = [0, 1, 3, 4]
        np.testing.assert_array_equal(got.numpy()[others], clean.numpy()[others])


@pytest.mark.parametrize("backend", ["cpp", "xla"])
def test_half_precision_rounds_once(backend: str) -> None:
    """As good as float32 on the same inputs, up to the last rounding."""
    inputs = [a.astype(np.float16) for a in _inputs(8, 6, 16, 8)]
    want = ops.attentional_pooling(*[a.astype(np.float32) for a in inputs], backend="xla")
    for got, exact in zip(ops.attentional_pooling(*inputs, backend=backend), want):
        assert got.dtype == tf.float16
        np.testing.assert_allclose(got, exact.numpy().astype(np.float16), rtol=1e-3, atol=1e-6)


def test_gradient_does_not_scatter() -> None:
    @tf.function(jit_compile=True)
    def step(*inputs: tf.Tensor) -> list[tf.Tensor]:
        return tf.gradients(ops.attentional_pooling(*inputs, backend="xla"), inputs)

    inputs = [tf.constant(a) for a in _inputs(2, 4, 3, 5)]
    assert "scatter" not in step.experimental_get_compiler_ir(*inputs)(stage="hlo")


def test_wrong_arguments_are_named() -> None:
    x, kernel, bias, projection = _inputs(2, 4, 3, 5)
    with pytest.raises(ValueError, match=r"kernel must have shape \[3, A\], got \[5, 3\]"):
        ops.attentional_pooling(x, kernel.T, bias, projection)
    with pytest.raises(ValueError, match=r"bias must have shape \[5\], got \[4\]"):
        ops.attentional_pooling(x, kernel, bias[:4], projection)
    with pytest.raises(ValueError, match=r"projection must have shape \[5\], got \[5, 1\]"):
        ops.attentional_pooling(x, kernel, bias, projection[:, None])
    with pytest.raises(ValueError, match=r"projection must have dtype float32.*float64"):
        ops.attentional_pooling(x, kernel, bias, projection.astype(np.float64))
    with pytest.raises(ValueError, match=r"at least 2 fields on axis 1, got \[2, 1, 3\]"):
        ops.attentional_pooling(x[:, :1], kernel, bias, projection)
