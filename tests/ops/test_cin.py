"""Compressed interaction network: identities, edges, blocks of rows, and what is kept."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recops import ops, profiling
from recops.ops.cin import xla_cpu
from tests.oracles import cin as oracle

BACKENDS = ("cpp", "xla", "reference")


def _inputs(b: int, f: int, before: int, maps: int, d: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(5)
    shapes = ((b, f, d), (b, before, d), (maps, before, f))
    return tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_kernel_of_ones_squares_the_sum_of_fields(backend: str) -> None:
    x = _inputs(3, 4, 4, 1, 5)[0]
    tensor = tf.constant(x)
    y = ops.compressed_interaction(tensor, tensor, np.ones((1, 4, 4), np.float32), backend=backend)
    np.testing.assert_allclose(y[:, 0], x.sum(1) ** 2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_fields_with_themselves_are_like_any_maps(backend: str) -> None:
    x, _, kernel = _inputs(3, 4, 4, 5, 2)
    gradients = []
    for other in (tf.constant(x), None):
        tensor, weights = tf.constant(x), tf.constant(kernel)
        with tf.GradientTape() as tape:
            tape.watch([tensor, weights] if other is None else [tensor, other, weights])
            second = tensor if other is None else other
            y = ops.compressed_interaction(tensor, second, weights, backend=backend)
            loss = tf.reduce_sum(y**2)
        if other is None:
            gradients.append(tape.gradient(loss, [tensor, weights]))
        else:
            left, right, dweights = tape.gradient(loss, [tensor, other, weights])
            gradients.append([left + right, dweights])
        np.testing.assert_allclose(
            y, oracle.compressed_interaction(x, x, kernel), rtol=1e-4, atol=1e-5
        )
    for apart, itself in zip(*gradients):
        np.testing.assert_allclose(itself, apart, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 255, 256, 257])
def test_rows_that_do_not_fill_a_block(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xla_cpu, "_COLUMNS", 512)
    x0, xk, kernel = (tf.constant(a) for a in _inputs(batch, 3, 2, 4, 2))
    got = []
    for backend in BACKENDS:
        with tf.GradientTape() as tape:
            tape.watch([x0, xk, kernel])
            y = ops.compressed_interaction(x0, xk, kernel, backend=backend)
        got.append([y, *tape.gradient(y, [x0, xk, kernel])])
    for form in got[:-1]:
        for fast, plain in zip(form, got[-1]):
            np.testing.assert_allclose(fast, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(5, 26, 7, 33, 3), (150, 2, 1, 1, 1), (9, 15, 14, 17, 16)])
@pytest.mark.parametrize("itself", [False, True])
def test_native_sizes_that_fill_no_group_of_columns_or_products(
    shape: tuple[int, ...], itself: bool
) -> None:
    b, f, before, maps, d = shape
    x0, xk, kernel = (tf.constant(a) for a in _inputs(b, f, f if itself else before, maps, d))
    got = []
    for backend in ("cpp", "reference"):
        watched = [x0, kernel] if itself else [x0, xk, kernel]
        with tf.GradientTape() as tape:
            tape.watch(watched)
            y = ops.compressed_interaction(x0, x0 if itself else xk, kernel, backend=backend)
            loss = tf.reduce_sum(y**2)
        got.append([y, *tape.gradient(loss, watched)])
    for fast, plain in zip(*got):
        np.testing.assert_allclose(fast, plain, rtol=1e-4, atol=1e-5 * np.abs(plain).max())


@pytest.mark.parametrize(
    "shape", [(5, 26, 7, 33, 3), (150, 2, 1, 1, 1), (9, 15, 14, 17, 16), (20, 25, 9, 128, 8)]
)
@pytest.mark.parametrize("itself", [False, True])
def test_native_bfloat16_rounds_products_and_sums_in_float32(
    shape: tuple[int, ...], itself: bool
) -> None:
    """Against float32 on the same values: no error grows with the number of products."""
    b, f, before, maps, d = shape
    made = _inputs(b, f, f if itself else before, maps, d)
    narrow = [tf.cast(a, tf.bfloat16) for a in made]
    cotangent = tf.cast(np.random.default_rng(6).normal(size=(b, maps, d)), tf.bfloat16)
    got = []
    for backend, dtype in (("cpp", tf.bfloat16), ("reference", tf.float32)):
        x0, xk, kernel = (tf.cast(a, dtype) for a in narrow)
        watched = [x0, kernel] if itself else [x0, xk, kernel]
        with tf.GradientTape() as tape:
            tape.watch(watched)
            y = ops.compressed_interaction(x0, x0 if itself else xk, kernel, backend=backend)
        gradients = tape.gradient(y, watched, tf.cast(cotangent, dtype))
        got.append([tf.cast(t, tf.float32).numpy() for t in (y, *gradients)])
    for fast, plain in zip(*got):
        np.testing.assert_allclose(fast, plain, rtol=0, atol=2.0**-7 * np.abs(plain).max())


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("itself", [False, True])
def test_native_rows_that_are_not_a_number_spoil_no_others(dtype: str, itself: bool) -> None:
    rows = 9  # of 16 columns: one block with an empty end
    x0, xk, kernel = _inputs(rows, 5, 5, 3, 16)
    x0[4], xk[4] = np.nan, np.inf
    inputs = [tf.cast(a, dtype) for a in (x0, xk, kernel)]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        second = inputs[0] if itself else inputs[1]
        y = ops.compressed_interaction(inputs[0], second, inputs[2], backend="cpp")
    dx0 = tape.gradient(y, inputs[0])
    for result in (y, dx0):
        finite = np.isfinite(tf.cast(result, tf.float32).numpy()).all(axis=(1, 2))
        assert finite.tolist() == [row != 4 for row in range(rows)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_empty_batch(backend: str, dtype: str) -> None:
    x0, xk, kernel = (tf.cast(a, dtype) for a in _inputs(0, 3, 2, 4, 5))
    with tf.GradientTape() as tape:
        tape.watch([x0, kernel])
        y = ops.compressed_interaction(x0, xk, kernel, backend=backend)
    assert y.shape == (0, 4, 5)
    dx, dkernel = tape.gradient(y, [x0, kernel])
    assert dx.shape == (0, 3, 5)
    assert not np.any(tf.cast(dkernel, tf.float32))


@pytest.mark.parametrize("backend", BACKENDS)
def test_unknown_batch_size(backend: str) -> None:
    x = _inputs(3, 4, 4, 1, 2)[0]
    kernels = [np.ones((2, 4, 4), np.float32), np.ones((3, 2, 4), np.float32)]

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 2])], jit_compile=True)
    def run(x: tf.Tensor) -> tf.Tensor:
        return ops.cin(x, kernels, backend=backend)

    assert run.get_concrete_function().structured_outputs.shape == (None, 5)
    np.testing.assert_allclose(run(x), oracle.cin(x, kernels), rtol=1e-4, atol=1e-4)


def test_outer_products_never_stand_whole() -> None:
    """Peak memory of forward and backward stays below 3 times inputs, outputs and gradients.

    The native kernel's stays below one and a half times.
    """
    arrays = _inputs(1024, 26, 64, 64, 16)
    tensors = [tf.constant(a) for a in arrays]

    def peak(backend: str) -> float | None:
        @tf.function(jit_compile=True)
        def step(*inputs: tf.Tensor) -> list[tf.Tensor]:
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                y = ops.compressed_interaction(*inputs, backend=backend)
            return [y, *tape.gradient(y, inputs, tf.stop_gradient(y))]

        step(*tensors)
        return profiling.peak_mib(lambda: step(*tensors))

    held = 2 * (sum(a.nbytes for a in arrays) + 1024 * 64 * 16 * 4) / 2**20
    found = peak("xla")
    if found is None:
        pytest.skip("no allocator statistics here")
    whole = 1024 * 26 * 64 * 16 * 4 / 2**20
    assert found < min(3 * held, whole), found
    native = peak("cpp")
    assert native is not None
    assert native < 1.5 * held, native
    assert peak("reference") > whole  # or this test could not fail


def test_wrong_arguments_are_told_what_came() -> None:
    x0, xk, kernel = _inputs(2, 3, 4, 5, 2)
    with pytest.raises(ValueError, match=r"kernel must have shape \[H, 4, 3\], got \[5, 3, 4\]"):
        ops.compressed_interaction(x0, xk, kernel.transpose(0, 2, 1))
    with pytest.raises(ValueError, match=r"xk must have shape \[2, Hk, 2\], got \[2, 2, 4\]"):
        ops.compressed_interaction(x0, xk.transpose(0, 2, 1), kernel)
    with pytest.raises(ValueError, match=r"xk must have shape \[2, Hk, 2\], got \[1, 4, 2\]"):
        ops.compressed_interaction(x0, xk[:1], kernel)
    with pytest.raises(ValueError, match="one \\[H, Hk, F\\] a layer, got none"):
        ops.cin(x0, [])
    first = np.ones((3, 3, 3), np.float32)
    with pytest.raises(ValueError, match=r"even numbers of maps, got 3 in kernels\[0\]"):
        ops.cin(x0, [first, first], split_half=True)
    with pytest.raises(ValueError, match=r"kernels\[1\] must have shape \[H, 3, 3\]"):
        ops.cin(x0, [first, np.ones((3, 2, 3), np.float32)])
    with pytest.raises(ValueError, match="1 of them, got 2"):
        ops.cin(x0, [first], [np.ones(3, np.float32)] * 2)
