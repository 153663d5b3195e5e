"""Bilinear interaction: identities between its types, edges, and what a wrong argument is told."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recops import ops

BACKENDS = ("cpp", "xla", "reference")
TYPES = ("all", "each", "interaction")


def _matrices(fields: int, bilinear_type: str) -> tuple[int, ...]:
    return {"all": (), "each": (fields - 1,), "interaction": (fields * (fields - 1) // 2,)}[
        bilinear_type
    ]


def _inputs(b: int, f: int, d: int, bilinear_type: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    kernel = rng.normal(size=(*_matrices(f, bilinear_type), d, d))
    return rng.normal(size=(b, f, d)).astype(np.float32), kernel.astype(np.float32)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bilinear_type", TYPES)
@pytest.mark.parametrize("shape", [(3, 5, 3), (1, 2, 7)])
def test_identity_matrices_give_the_hadamard_products(
    shape: tuple[int, int, int], bilinear_type: str, backend: str
) -> None:
    x, kernel = _inputs(*shape, bilinear_type)
    kernel = np.broadcast_to(np.eye(shape[2], dtype=np.float32), kernel.shape)
    got = ops.bilinear_interaction(x, kernel, bilinear_type, backend=backend)
    np.testing.assert_allclose(got, ops.pairwise_hadamard(x), rtol=1e-6)
    inner = ops.pairwise_inner(x)
    np.testing.assert_allclose(tf.reduce_sum(got, axis=2), inner, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_types_agree_when_their_matrices_do(backend: str) -> None:
    x, kernel = _inputs(4, 5, 3, "each")
    left = np.triu_indices(5, 1)[0]
    each = ops.bilinear_interaction(x, kernel, "each", backend=backend)
    pairs = ops.bilinear_interaction(x, kernel[left], "interaction", backend=backend)
    np.testing.assert_allclose(each, pairs, rtol=1e-5, atol=1e-6)
    same = np.broadcast_to(kernel[0], kernel.shape)
    each = ops.bilinear_interaction(x, same, "each", backend=backend)
    shared = ops.bilinear_interaction(x, kernel[0], "all", backend=backend)
    np.testing.assert_allclose(each, shared, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_last_field_is_never_on_the_left(backend: str) -> None:
    """The gradient reaches it through the products on the right alone, whatever the matrices."""
    x, kernel = _inputs(2, 4, 3, "each")
    tensor = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        y = ops.bilinear_interaction(tensor, kernel, "each", backend=backend)
    want = sum(x[:, i] @ kernel[i] for i in range(3))
    np.testing.assert_allclose(tape.gradient(y, tensor)[:, 3], want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bilinear_type", TYPES)
def test_empty_batch_has_zero_gradients(bilinear_type: str, backend: str) -> None:
    x, kernel = (tf.constant(a) for a in _inputs(0, 3, 5, bilinear_type))
    with tf.GradientTape() as tape:
        tape.watch([x, kernel])
        y = ops.bilinear_interaction(x, kernel, bilinear_type, backend=backend)
    assert y.shape == (0, 3, 5)
    dx, dkernel = tape.gradient(y, [x, kernel])
    assert dx.shape == (0, 3, 5)
    assert dkernel.shape == kernel.shape
    assert not np.any(dkernel)


@pytest.mark.parametrize("bilinear_type", TYPES)
@pytest.mark.parametrize("shape", [(1, 26, 16), (25, 3, 17), (13, 6, 1), (50, 4, 33)])
def test_native_rows_and_sizes_that_fill_no_block(
    shape: tuple[int, int, int], bilinear_type: str
) -> None:
    """Rows and dimensions beside the multiples that the kernel works in."""
    got = []
    for backend in ("cpp", "reference"):
        tensors = [tf.constant(a) for a in _inputs(*shape, bilinear_type)]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            y = ops.bilinear_interaction(*tensors, bilinear_type, backend=backend)
            loss = tf.reduce_sum(y**2)
        got.append([y, *tape.gradient(loss, tensors)])
    for fast, plain in zip(*got):
        np.testing.assert_allclose(fast, plain, rtol=1e-4, atol=1e-4 * np.abs(plain).max())


@pytest.mark.parametrize("backend", ["cpp", "xla"])
@pytest.mark.parametrize("bilinear_type", TYPES)
def test_half_precision_accumulates_in_float32(bilinear_type: str, backend: str) -> None:
    """Terms of 2048 and 1 whose float16 sum would lose each 1."""
    x = np.ones((1, 2, 16), np.float16)
    x[0, 0, 0] = 2048
    kernel = np.ones((*_matrices(2, bilinear_type), 16, 16), np.float16)
    got = ops.bilinear_interaction(x, kernel, bilinear_type, backend=backend)
    assert got.dtype == tf.float16
    np.testing.assert_array_equal(got, np.full((1, 1, 16), np.float16(2063)))


@pytest.mark.parametrize("bilinear_type", TYPES)
def test_gradient_does_not_scatter(bilinear_type: str) -> None:
    @tf.function(jit_compile=True)
    def step(x: tf.Tensor, kernel: tf.Tensor) -> list[tf.Tensor]:
        y = ops.bilinear_interaction(x, kernel, bilinear_type, backend="xla")
        return tf.gradients(y, [x, kernel])

    x, kernel = (tf.constant(a) for a in _inputs(2, 4, 3, bilinear_type))
    assert "scatter" not in step.experimental_get_compiler_ir(x, kernel)(stage="hlo")


def test_wrong_arguments_are_named() -> None:
    x, kernel = _inputs(2, 5, 3, "each")
    with pytest.raises(ValueError, match="one of all, each, interaction, got 'field_each'"):
        ops.bilinear_interaction(x, kernel, "field_each")
    with pytest.raises(
        ValueError,
        match=r"kernel .*'each', 5 fields\) must have shape \[4, 3, 3\], got \[5, 3, 3\]",
    ):
        ops.bilinear_interaction(x, np.ones((5, 3, 3), np.float32), "each")
    with pytest.raises(ValueError, match=r"kernel .*\[10, 3, 3\], got \[4, 3, 3\]"):
        ops.bilinear_interaction(x, kernel, "interaction")
    with pytest.raises(ValueError, match=r"kernel .*\[3, 3\], got \[4, 3, 3\]"):
        ops.bilinear_interaction(x, kernel, "all")
    with pytest.raises(ValueError, match=r"kernel .*dtype float32.*float64"):
        ops.bilinear_interaction(x, kernel.astype(np.float64), "each")
    with pytest.raises(ValueError, match=r"x must have shape \[B, F, D\], got \[2, 5\]"):
        ops.bilinear_interaction(x[:, :, 0], kernel, "each")
    with pytest.raises(ValueError, match=r"at least 2 fields on axis 1, got \[2, 1, 3\]"):
        ops.bilinear_interaction(x[:, :1], kernel[:0], "each")
