"""Outer product layer: the matrix s s^T, edges, and what a wrong argument is told."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recops import ops

BACKENDS = ("xla", "reference")


def _inputs(b: int, f: int, d: int, u: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    x, kernel = rng.normal(size=(b, f, d)), rng.normal(size=(u, d, d))
    return x.astype(np.float32), kernel.astype(np.float32)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(3, 5, 3), (1, 2, 7), (2, 1, 4)])
def test_kernels_of_one_entry_pick_s_st(shape: tuple[int, int, int], backend: str) -> None:
    x, _ = _inputs(*shape, 1)
    dim = shape[2]
    entries = np.eye(dim * dim, dtype=np.float32).reshape(dim * dim, dim, dim)
    got = ops.outer_product(x, entries, backend=backend)
    total = x.sum(axis=1)
    matrix = np.stack([np.outer(s, s) for s in total])
    np.testing.assert_allclose(got, matrix.reshape(shape[0], -1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_identity_kernel_is_fm_plus_the_squares(backend: str) -> None:
    x, _ = _inputs(4, 5, 3, 1)
    got = ops.outer_product(x, np.eye(3, dtype=np.float32)[None], backend=backend)
    want = 2 * ops.fm_interaction(x) + np.sum(x * x, axis=(1, 2))[:, None]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_only_the_symmetric_part_of_a_kernel_counts(backend: str) -> None:
    x, kernel = _inputs(3, 4, 5, 2)
    got = ops.outer_product(x, kernel - kernel.transpose(0, 2, 1), backend=backend)
    np.testing.assert_allclose(got, np.zeros((3, 2)), atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_fields_have_the_same_gradient(backend: str) -> None:
    x, kernel = (tf.constant(a) for a in _inputs(3, 4, 5, 2))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = ops.outer_product(x, kernel, backend=backend)
    gradient = tape.gradient(y, x).numpy()
    np.testing.assert_array_equal(gradient, np.repeat(gradient[:, :1], 4, axis=1))


@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_batch_has_zero_gradients(backend: str) -> None:
    x, kernel = (tf.constant(a) for a in _inputs(0, 3, 5, 2))
    with tf.GradientTape() as tape:
        tape.watch([x, kernel])
        y = ops.outer_product(x, kernel, backend=backend)
    assert y.shape == (0, 2)
    dx, dkernel = tape.gradient(y, [x, kernel])
    assert dx.shape == (0, 3, 5)
    assert not np.any(dkernel)


def test_half_precision_accumulates_in_float32() -> None:
    """A field sum of 2048 ones and one more, which float16 cannot count."""
    x = np.ones((1, 2049, 1), np.float16)
    x[0, 0] = -1
    got = ops.outer_product(x, np.full((1, 1, 1), 2.0**-10, np.float16), backend="xla")
    assert got.dtype == tf.float16
    np.testing.assert_array_equal(got, np.float16([[2047.0**2 / 1024]]))


def test_wrong_arguments_are_named() -> None:
    x, kernel = _inputs(2, 4, 3, 5)
    with pytest.raises(ValueError, match=r"kernel must have shape \[U, 3, 3\], got \[5, 3, 4\]"):
        ops.outer_product(x, np.ones((5, 3, 4), np.float32))
    with pytest.raises(ValueError, match=r"kernel must have shape \[U, 3, 3\], got \[3, 3\]"):
        ops.outer_product(x, kernel[0])
    with pytest.raises(ValueError, match=r"kernel must have dtype float32.*float64"):
        ops.outer_product(x, kernel.astype(np.float64))
    with pytest.raises(ValueError, match=r"x must have shape \[B, F, D\], got \[2, 4\]"):
        ops.outer_product(x[:, :, 0], kernel)
