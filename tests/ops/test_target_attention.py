"""DIN's activation unit: identities, padding and empty rows, what is formed and kept, errors."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from recops import ops
from recops._core.activations import ACTIVATIONS

BACKENDS = ("cpp", "xla", "reference")
B, T, D = 3, 5, 7
WIDTHS = (4 * D, 6, 2, 1)

_rng = np.random.default_rng(0)
Q = _rng.normal(size=(B, D)).astype(np.float32)
K = _rng.normal(size=(B, T, D)).astype(np.float32)
KERNELS = [_rng.normal(size=nm).astype(np.float32) for nm in itertools.pairwise(WIDTHS)]
BIASES = [_rng.normal(size=n).astype(np.float32) for n in WIDTHS[1:]]
MASK = np.array([[True, True, False, True, False], [False] * 5, [False, False, True, True, True]])


def _step(backend: str, **options: Any) -> Callable[..., list[tf.Tensor]]:
    """(query, keys, mask) -> outputs and all gradients."""

    def step(q: tf.Tensor, k: tf.Tensor, mask: Any) -> list[tf.Tensor]:
        kernels, biases = [*map(tf.constant, KERNELS)], [*map(tf.constant, BIASES)]
        with tf.GradientTape() as tape:
            inputs = [q, k, *kernels, *biases]
            tape.watch(inputs)
            outputs = ops.target_attention(q, k, kernels, biases, mask, **options, backend=backend)
        return [*outputs, *tape.gradient(outputs, inputs, [tf.ones_like(o) for o in outputs])]

    return step


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("normalize", [True, False])
def test_padding_may_be_nan_and_rows_may_be_empty(backend: str, jit: bool, normalize: bool) -> None:
    run = tf.function(_step(backend, normalize=normalize), jit_compile=jit)
    spoilt = np.where(MASK[..., None], K, np.nan).astype(np.float32)
    clean = run(tf.constant(Q), tf.constant(K), MASK)
    dirty = run(tf.constant(Q), tf.constant(spoilt), MASK)
    for c, d in zip(clean, dirty):
        assert np.isfinite(c).all()
        np.testing.assert_array_equal(c, d)
    pooled, weights, _, dkeys, *_ = (tensor.numpy() for tensor in clean)
    assert not pooled[1].any()
    assert not weights[~MASK].any()
    assert not dkeys[~MASK].any()
    assert dkeys[MASK].any(axis=1).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_are_a_distribution_over_the_kept_keys(backend: str) -> None:
    pooled, weights = ops.target_attention(Q, K, KERNELS, BIASES, MASK, backend=backend)
    np.testing.assert_allclose(np.sum(weights, axis=1), [1, 0, 1], rtol=1e-6)
    np.testing.assert_allclose(pooled, np.einsum("bt,btd->bd", weights, K), rtol=1e-5, atol=1e-6)
    _, everything = ops.target_attention(Q, K, KERNELS, BIASES, backend=backend)
    assert (everything.numpy() > 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_raw_scores_are_those_of_single_keys(backend: str) -> None:
    """Without the softmax no key knows of another."""
    options = {"activation": "relu", "normalize": False, "backend": backend}
    _, scores = ops.target_attention(Q, K, KERNELS, BIASES, **options)
    for t in range(T):
        _, alone = ops.target_attention(Q, K[:, t : t + 1], KERNELS, BIASES, **options)
        np.testing.assert_allclose(alone[:, 0], scores[:, t], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_order_of_the_keys_does_not_matter(backend: str) -> None:
    order = np.array([3, 0, 4, 1, 2])
    pooled, weights = ops.target_attention(Q, K, KERNELS, BIASES, MASK, backend=backend)
    again, moved = ops.target_attention(
        Q, K[:, order], KERNELS, BIASES, MASK[:, order], backend=backend
    )
    np.testing.assert_allclose(again, pooled, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(moved, weights.numpy()[:, order], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_softmax_does_not_see_the_last_bias(backend: str) -> None:
    want = ops.target_attention(Q, K, KERNELS, BIASES[:-1], MASK, backend=backend)
    got = ops.target_attention(Q, K, KERNELS, [*BIASES[:-1], [50.0]], MASK, backend=backend)
    for g, w in zip(got, want):
        np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-5)
    raw, without = (
        ops.target_attention(Q, K, KERNELS, b, MASK, normalize=False, backend=backend)[1]
        for b in (BIASES, BIASES[:-1])
    )
    difference = np.where(MASK, BIASES[-1], 0)
    np.testing.assert_allclose(raw - without, difference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_huge_scores_are_safe(backend: str, dtype: str) -> None:
    kernel = np.zeros((4 * D, 1))
    kernel[3 * D :] = 1  # <q, k>
    arrays = (np.asarray(a, dtype) for a in (100 * Q, K, kernel))
    q, k, kernel = arrays
    pooled, _ = ops.target_attention(q, k, [kernel], [], backend=backend)
    best = np.einsum("bd,btd->bt", Q, K).argmax(1)
    np.testing.assert_allclose(pooled, K[range(B), best], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("batch", "steps"), [(0, T), (1, T), (B, 0)])
def test_empty_and_single_batches(backend: str, batch: int, steps: int) -> None:
    pooled, weights, dquery, dkeys, *dnetwork = _step(backend)(
        tf.constant(Q[:batch]), tf.constant(K[:batch, :steps]), MASK[:batch, :steps]
    )
    assert (pooled.shape, dquery.shape) == ((batch, D), (batch, D))
    assert (weights.shape, dkeys.shape) == ((batch, steps), (batch, steps, D))
    assert all(np.isfinite(g).all() for g in (pooled, dquery, *dnetwork))


@pytest.mark.parametrize(
    ("shape", "units", "activation", "normalize"),
    [
        ((40, 9, 16), (20, 33), "sigmoid", True),  # several partial sums
        ((2, 150, 8), (16, 1, 5), "tanh", True),  # steps in several blocks
        ((3, 70, 16), (17,), "relu", False),
        ((2, 130, 3), (), "linear", True),
        ((1, 1, 1), (1,), "sigmoid", False),
    ],
)
@pytest.mark.parametrize("prefix", [True, False])
def test_native_agrees_at_odd_sizes(
    shape: tuple[int, int, int],
    units: tuple[int, ...],
    activation: str,
    normalize: bool,
    prefix: bool,
) -> None:
    b, t, d = shape
    rng = np.random.default_rng(0)
    widths = (4 * d, *units, 1)
    kernels = [rng.normal(size=nm) / np.sqrt(nm[0]) for nm in itertools.pairwise(widths)]
    floats = [rng.normal(size=(b, d)), rng.normal(size=shape), *kernels]
    floats += [rng.normal(size=n) for n in widths[1:]]
    keep = np.arange(t) < rng.integers(0, t + 1, size=(b, 1))
    mask = keep if prefix else rng.uniform(size=(b, t)) < 0.6
    douts = [rng.normal(size=(b, d)), rng.normal(size=(b, t))]
    results = []
    for backend in ("cpp", "reference"):
        q, k, *network = inputs = [tf.constant(f) for f in floats]
        weights, biases = network[: len(kernels)], network[len(kernels) :]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = ops.target_attention(
                q, k, weights, biases, mask, activation, normalize, backend=backend
            )
        results.append([*outputs, *tape.gradient(outputs, inputs, douts)])
    for got, want in zip(*results):
        np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-10)


def test_one_trace_takes_histories_of_all_lengths() -> None:
    any_length = tf.TensorSpec((None, None, D))
    traced = tf.function(
        lambda q, k: ops.target_attention(q, k, KERNELS, BIASES, backend="xla"),
        input_signature=[tf.TensorSpec((None, D)), any_length],
    )
    for steps in (T, 2):
        got = traced(Q, K[:, :steps])
        want = ops.target_attention(Q, K[:, :steps], KERNELS, BIASES, backend="reference")
        for g, w in zip(got, want):
            np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-5)


def test_the_first_layers_input_is_never_formed() -> None:
    def program(backend: str) -> str:
        step = tf.function(_step(backend), jit_compile=True)
        return step.experimental_get_compiler_ir(tf.constant(Q), tf.constant(K), MASK)("hlo")

    wide = f"f32[{B},{T},{4 * D}]"
    assert wide in program("reference")
    assert wide not in program("xla")


def test_derivatives_are_those_of_the_activations() -> None:
    x = tf.constant([-2.0, -0.5, 0.25, 3.0])
    for name, (function, derivative) in ACTIVATIONS.items():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        np.testing.assert_allclose(derivative(y), tape.gradient(y, x), rtol=1e-5, err_msg=name)


def _call(**changed: Any) -> Any:
    arguments = {"query": Q, "keys": K, "kernels": KERNELS, "biases": BIASES, **changed}
    return ops.target_attention(**arguments)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"query": Q[:, None]}, r"query must have shape \[B, D\], got \[3, 1, 7\]"),
        ({"keys": K[..., 1:]}, r"keys must have shape \[B, T, 7\], got \[3, 5, 6\]"),
        ({"keys": K[1:]}, r"keys must have shape \[3, T, 7\], got \[2, 5, 7\]"),
        ({"keys": K.astype(np.float64)}, "keys must have dtype float32 like the first argument"),
        ({"mask": MASK[:, 1:]}, r"mask must have shape \[3, 5\], got \[3, 4\]"),
        ({"mask": MASK.astype(np.float32)}, "mask must be bool"),
        ({"kernels": KERNELS[1:], "biases": BIASES[1:]}, r"kernels\[0\] .*\[28, A\], got \[6, 2\]"),
        ({"kernels": KERNELS[:2], "biases": BIASES[:2]}, r"kernels\[1\] .*\[6, 1\], got \[6, 2\]"),
        ({"kernels": [], "biases": []}, "at least one kernel"),
        ({"biases": BIASES[:1]}, "got 3 kernels and 1 biases"),
        ({"biases": [BIASES[0], BIASES[0], BIASES[2]]}, r"biases\[1\] .*\[2\], got \[6\]"),
        ({"activation": "dice"}, r"sigmoid, relu, tanh, linear or None, got 'dice'.*TargetAtt"),
        ({"activation": tf.nn.relu}, "activation must be one of"),
    ],
)
def test_wrong_arguments_are_named(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"target_attention: .*{said}"):
        _call(**changed)
