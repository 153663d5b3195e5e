"""Cross network: the degree of its polynomial, edges, and what a wrong argument is told."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recops import ops

BACKENDS = ("xla", "reference")


def _weights(*shape: int, layers: int = 2) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(1)
    kernels = [rng.normal(size=shape).astype(np.float32) for _ in range(layers)]
    return kernels, [rng.normal(size=shape[-1]).astype(np.float32) for _ in range(layers)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_zero_kernels_add_the_biases(backend: str) -> None:
    x = np.ones((2, 3), np.float32)
    kernels, biases = _weights(3)
    got = ops.cross_network(x, [0 * k for k in kernels], biases, backend=backend)
    np.testing.assert_allclose(got, x + sum(biases), rtol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(3,), (3, 3)])
def test_layer_l_is_a_polynomial_of_degree_l_plus_1(backend: str, shape: tuple[int, ...]) -> None:
    kernels, biases = _weights(*shape)
    biases = [0 * b for b in biases]
    scales = np.arange(4.0, dtype=np.float32)
    x = scales[:, None] * np.array([[0.5, -1.0, 2.0]], np.float32)
    values = ops.cross_network(x, kernels, biases, backend=backend).numpy()[:, 0]
    cubic = np.polyfit(scales, values, 3)
    assert abs(np.polyval(cubic, 5.0) - _at(5.0, kernels, biases, backend)) < 1e-2 * abs(
        np.polyval(cubic, 5.0)
    )


def _at(scale: float, kernels: list[np.ndarray], biases: list[np.ndarray], backend: str) -> float:
    x = np.array([[0.5, -1.0, 2.0]], np.float32) * np.float32(scale)
    return float(ops.cross_network(x, kernels, biases, backend=backend)[0, 0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_layers_return_the_input(backend: str) -> None:
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(ops.cross_network(x, [], [], backend=backend), x)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(3,), (3, 3)])
def test_empty_batch_has_zero_gradients(backend: str, shape: tuple[int, ...]) -> None:
    kernels, biases = _weights(*shape)
    tensors = [tf.constant(w) for w in (*kernels, *biases)]
    x = tf.zeros([0, 3])
    with tf.GradientTape() as tape:
        tape.watch([x, *tensors])
        y = ops.cross_network(x, tensors[:2], tensors[2:], backend=backend)
    gradients = tape.gradient(y, [x, *tensors])
    assert gradients[0].shape == (0, 3)
    assert all(not np.any(g) for g in gradients[1:])


def test_outer_product_is_never_formed() -> None:
    kernels, biases = _weights(7)
    step = tf.function(
        lambda x: tf.gradients(ops.cross_network(x, kernels, biases, backend="xla"), [x])[0],
        jit_compile=True,
    )
    x = tf.ones([5, 7])
    assert "[5,7,7]" not in step.experimental_get_compiler_ir(x)(stage="hlo")


def test_wrong_arguments_are_named() -> None:
    x = np.ones((2, 3), np.float32)
    kernels, biases = _weights(3)
    with pytest.raises(ValueError, match=r"x must have shape \[B, n\], got \[2, 3, 1\]"):
        ops.cross_network(x[:, :, None], kernels, biases)
    with pytest.raises(ValueError, match="2 kernels and 1 biases"):
        ops.cross_network(x, kernels, biases[:1])
    with pytest.raises(ValueError, match=r"kernels\[1\] must have shape \[3\], got \[4\]"):
        ops.cross_network(x, [kernels[0], np.ones(4, np.float32)], biases)
    with pytest.raises(ValueError, match=r"kernels\[1\] must have shape \[3, 3\], got \[3\]"):
        ops.cross_network(x, [np.eye(3, dtype=np.float32), kernels[0]], biases)
    with pytest.raises(ValueError, match=r"biases\[0\] must have dtype float32.*float64"):
        ops.cross_network(x, kernels, [b.astype(np.float64) for b in biases])
