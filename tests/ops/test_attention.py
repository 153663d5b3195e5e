"""Multi-head attention: equal to Keras, padding and empty rows, causality, and error texts."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recops import ops

BACKENDS = ("cpp", "xla", "reference")
B, T, S, N, E = 2, 3, 4, 2, 5


def _heads(steps: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(B, steps, N, E)).astype(np.float32)


Q, K, V = _heads(T, 0), _heads(S, 1), _heads(S, 2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_equal_keys_give_the_mean_of_the_kept_values(backend: str) -> None:
    mask = np.array([[True, True, False, False], [False, True, True, True]])
    got = ops.multi_head_attention(Q, np.zeros_like(K), V, mask, backend=backend).numpy()
    for b in range(B):
        mean = V[b, mask[b]].mean(0)
        np.testing.assert_allclose(got[b], np.broadcast_to(mean, (T, N, E)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_masks_of_all_ranks_agree(backend: str) -> None:
    keys = np.array([[True, True, False, True], [True, False, False, False]])
    want = ops.multi_head_attention(Q, K, V, keys, backend=backend)
    full = np.repeat(keys[:, None], T, axis=1)
    for mask in (full, full[:, None], np.repeat(full[:, None], N, axis=1)):
        got = ops.multi_head_attention(Q, K, V, mask, backend=backend)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_causal_output_does_not_depend_on_later_keys(backend: str) -> None:
    k, v = K.copy(), V.copy()
    want = ops.multi_head_attention(Q, k, v, causal=True, backend=backend).numpy()
    k[:, 2:], v[:, 2:] = 7.0, -9.0
    got = ops.multi_head_attention(Q, k, v, causal=True, backend=backend).numpy()
    np.testing.assert_array_equal(got[:, :2], want[:, :2])
    assert np.abs(got[:, 2] - want[:, 2]).max() > 0.1


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("jit", [False, True])
def test_padding_may_be_nan_and_rows_may_be_empty(backend: str, jit: bool) -> None:
    mask = np.array([[True, True, False, False], [False] * 4])

    def step(q: tf.Tensor, k: tf.Tensor, v: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch([q, k, v])
            y = ops.multi_head_attention(q, k, v, mask, backend=backend)
        return [y, *tape.gradient(y, [q, k, v], output_gradients=tf.ones_like(y))]

    run = tf.function(step, jit_compile=jit)
    clean = run(*map(tf.constant, (Q, K, V)))
    spoilt = [np.where(mask[..., None, None], t, np.nan).astype(np.float32) for t in (K, V)]
    dirty = run(tf.constant(Q), *map(tf.constant, spoilt))
    for c, d in zip(clean, dirty):
        assert np.isfinite(c.numpy()).all()
        np.testing.assert_array_equal(c, d)
    assert not clean[0].numpy()[1].any()
    assert not any(g.numpy()[1].any() for g in clean[1:])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_huge_scores_are_safe(backend: str, dtype: str) -> None:
    q, k, v = (tf.cast(t, dtype) for t in (Q * 100, K * 100, V))
    got = ops.multi_head_attention(q, k, v, backend=backend).numpy()
    best = np.einsum("btne,bsne->bnts", Q, K).argmax(-1)  # [B, N, T]
    for b, n, t in np.ndindex(best.shape):
        np.testing.assert_allclose(got[b, t, n], V[b, best[b, n, t], n], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_batch(backend: str) -> None:
    got = ops.multi_head_attention(Q[:0], K[:0], V[:0], backend=backend)
    assert got.shape == (0, T, N, E)


@pytest.mark.parametrize(
    ("shape", "mask_shape", "causal"),
    [
        ((2, 70, 300, 1, 17), (2, 300), False),  # queries in several blocks
        ((1, 600, 40, 2, 16), None, True),
        ((3, 70, 300, 2, 16), (3, 2, 70, 300), True),
        ((2, 1, 9, 3, 1), (2, 1, 9), False),
        ((2, 33, 1, 2, 33), (2, 1, 33, 1), False),
        ((0, 3, 4, 2, 16), (0, 3, 4), False),
        ((2, 0, 4, 1, 2), None, False),
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_native_agrees_at_odd_sizes(
    shape: tuple[int, ...], mask_shape: tuple[int, ...] | None, causal: bool, dtype: str
) -> None:
    b, t, s, n, e = shape
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(b, steps, n, e)) for steps in (t, s, s, t)]
    rounded = [tf.cast(array, dtype) for array in arrays]
    mask = None if mask_shape is None else rng.uniform(size=mask_shape) < 0.5
    results = []
    for backend, work in (("cpp", dtype), ("reference", "float64")):
        q, k, v, dout = (tf.cast(tensor, work) for tensor in rounded)
        with tf.GradientTape() as tape:
            tape.watch([q, k, v])
            out = ops.multi_head_attention(q, k, v, mask, causal, backend=backend)
        gradients = tape.gradient(out, [q, k, v], output_gradients=dout)
        results.append([tf.cast(r, tf.float64).numpy() for r in (out, *gradients)])
    for got, want in zip(*results):
        error = 1e-11 if dtype == "float64" else 0.01
        np.testing.assert_allclose(
            got, want, rtol=0, atol=error * np.max(np.abs(want), initial=0.0)
        )


def test_scores_are_not_kept_for_the_backward() -> None:
    traced = tf.function(lambda q: ops.multi_head_attention(q, K, V, backend="xla"))
    tensor = tf.constant(Q)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        traced(tensor)
    forward = traced.get_concrete_function(tensor).graph
    scores = [B, N, T, S]
    for op in forward.get_operations():
        assert scores not in [output.shape.as_list() for output in op.outputs]


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"key must have shape \[2, S, 2, 5\], got \[2, 4, 2, 4\]"):
        ops.multi_head_attention(Q, K[..., :4], V)
    with pytest.raises(ValueError, match=r"key must have shape \[2, S, 2, 5\], got \[1, 4, 2, 5\]"):
        ops.multi_head_attention(Q, K[:1], V[:1])
    with pytest.raises(
        ValueError, match=r"value must have shape \[2, 4, 2, 5\], got \[2, 3, 2, 5\]"
    ):
        ops.multi_head_attention(Q, K, V[:, :3])
    with pytest.raises(ValueError, match=r"mask must have shape \[B, S\], \[B, T, S\] or .*\[4\]"):
        ops.multi_head_attention(Q, K, V, np.ones(4, bool))
    with pytest.raises(ValueError, match=r"mask must have shape \[2, 4\], got \[2, 3\]"):
        ops.multi_head_attention(Q, K, V, np.ones((2, 3), bool))
    with pytest.raises(ValueError, match="mask must be bool"):
        ops.multi_head_attention(Q, K, V, np.ones((2, 4), np.float32))
