"""Pairwise ops: identities between them, edges, and what a wrong argument is told."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from recops import ops

BACKENDS = ("xla", "reference")


def _x(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("backend", BACKENDS)
def test_order_is_that_of_combinations(backend: str) -> None:
    x = np.array([[[1.0], [10.0], [100.0], [1000.0]]], np.float32)
    expected = [a * b for a, b in itertools.combinations((1, 10, 100, 1000), 2)]
    assert ops.pairwise_inner(x, backend=backend).numpy()[0].tolist() == expected
    assert ops.pairwise_hadamard(x, backend=backend).numpy()[0, :, 0].tolist() == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_sums_of_the_hadamard_products_are_the_other_ops(backend: str) -> None:
    x = _x(5, 6, 3)
    pairs = ops.pairwise_hadamard(x, backend=backend).numpy()
    close = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(ops.pairwise_inner(x, backend=backend), pairs.sum(2), **close)
    np.testing.assert_allclose(ops.bi_interaction(x, backend=backend), pairs.sum(1), **close)
    fm = ops.fm_interaction(x, backend=backend).numpy()
    np.testing.assert_allclose(fm[:, 0], pairs.sum((1, 2)), **close)


@pytest.mark.parametrize("backend", BACKENDS)
def test_field_aware_with_equal_vectors_is_fm(backend: str) -> None:
    x = _x(4, 5, 3)
    repeated = np.repeat(x[:, :, None], 5, axis=2)
    got = ops.field_aware_interaction(repeated, backend=backend)
    np.testing.assert_allclose(got, ops.fm_interaction(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_field_aware_diagonal_takes_no_part(backend: str) -> None:
    x = _x(3, 4, 4, 2)
    x[:, range(4), range(4)] = np.nan
    tensor = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        y = ops.field_aware_interaction(tensor, backend=backend)
    gradient = tape.gradient(y, tensor).numpy()
    assert np.isfinite(y.numpy()).all()
    assert np.isfinite(gradient).all()
    assert not gradient[:, range(4), range(4)].any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch", [0, 1])
def test_small_batches(backend: str, batch: int) -> None:
    x = tf.constant(_x(batch, 3, 2))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        outputs = [
            op(x, backend=backend)
            for op in (
                ops.pairwise_inner,
                ops.pairwise_hadamard,
                ops.bi_interaction,
                ops.fm_interaction,
            )
        ]
    assert [o.shape.as_list() for o in outputs] == [
        [batch, 3],
        [batch, 3, 2],
        [batch, 2],
        [batch, 1],
    ]
    for output in outputs:
        assert tape.gradient(output, x).shape == x.shape


def test_float16_sums_do_not_overflow_on_the_way() -> None:
    # The square of the sum is 90,000, beyond float16; the result is not.
    x = np.array([[[150.0], [150.0], [-250.0]]], np.float16)
    assert ops.bi_interaction(x, backend="xla").numpy()[0, 0] == np.float16(-52500)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_keeps_its_dtype(dtype: str) -> None:
    x = tf.cast(_x(2, 3, 4), dtype)
    assert ops.pairwise_inner(x).dtype == x.dtype
    assert ops.fm_interaction(x, backend="reference").dtype == x.dtype


def test_second_derivative_of_the_fast_path() -> None:
    x = tf.constant(_x(2, 3, 2))
    results = []
    for backend in BACKENDS:
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = tf.reduce_sum(ops.pairwise_inner(x, backend=backend) ** 2)
            gradient = inner.gradient(y, x)
        results.append(outer.gradient(gradient, x).numpy())
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-5)


NAMES = ("pairwise_inner", "pairwise_hadamard", "bi_interaction", "fm_interaction")


@pytest.mark.parametrize("name", NAMES)
def test_wrong_arguments_are_named(name: str) -> None:
    op = getattr(ops, name)
    with pytest.raises(ValueError, match=rf"{name}: x must have shape \[B, F, D\], got \[3, 4\]"):
        op(_x(3, 4))
    with pytest.raises(ValueError, match=rf"{name}: x must have at least 2 fields.*\[3, 1, 4\]"):
        op(_x(3, 1, 4))
    with pytest.raises(ValueError, match=rf"{name}: x must be a float tensor.*int64.*\[2, 3, 4\]"):
        op(np.ones((2, 3, 4), np.int64))


def test_unknown_fields_are_refused_with_the_remedy() -> None:
    traced = tf.function(ops.pairwise_inner)
    with pytest.raises(ValueError, match=r"static size F on axis 1.*\[\?, \?, 4\].*ensure_shape"):
        traced.get_concrete_function(tf.TensorSpec((None, None, 4)))


def test_unequal_field_axes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[B, F, F, D\] with F >= 2 twice, got \[2, 3, 4, 5\]"):
        ops.field_aware_interaction(_x(2, 3, 4, 5))
