"""DIN's activation unit as a layer: padding, statistics, parameters, seeds, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recops import ops
from recops._core.compat import keras
from recops.layers import TargetAttention
from tests.oracles.target_attention import with_dice

B, T, D = 4, 5, 3
RNG = np.random.default_rng(0)
Q = RNG.normal(size=(B, D)).astype(np.float32)
K = RNG.normal(size=(B, T, D)).astype(np.float32)
MASK = np.arange(T) >= np.array([0, 2, 4, 5])[:, None]  # padded at the front, the last row all


def drawn(layer):
    """The layer built, with weights large enough to matter."""
    layer.build((None, D), (None, T, D))
    layer.set_weights([np.abs(RNG.normal(size=w.shape)) for w in layer.weights])
    return layer


@pytest.mark.parametrize("activation", ["sigmoid", "dice", "prelu", "gelu"])
@pytest.mark.parametrize("training", [False, True])
def test_padding_reaches_no_output_gradient_or_statistic(activation, training):
    layer = drawn(TargetAttention([4, 3], activation))
    start = layer.get_weights()
    results = []
    for keys in (K, np.where(MASK[..., None], K, np.nan).astype(np.float32)):
        layer.set_weights(start)
        q, k = tf.constant(Q), tf.constant(keys)
        with tf.GradientTape() as tape:
            tape.watch([q, k])
            y = layer(q, k, mask=tf.constant(MASK), training=training)
        gradients = tape.gradient(y, [q, k, *layer.trainable_variables])
        results.append([y, *gradients, *layer.get_weights()])
    for clean, dirty in zip(*results):
        assert np.isfinite(clean).all()
        np.testing.assert_array_equal(clean, dirty)
    y, _, dkeys, *_ = (np.asarray(t) for t in results[0])
    assert not y[-1].any()
    assert not dkeys[~MASK].any()
    assert dkeys[MASK].any()


def test_dice_learns_its_statistics_from_kept_steps():
    layer = TargetAttention([4], "dice")
    layer(Q, K, mask=MASK, training=True)
    q = Q[:, None]
    x = np.concatenate([q + 0 * K, K, q - K, q * K], axis=2) @ np.asarray(layer.kernels[0])
    mean = layer.activations[0].normalization.moving_mean
    np.testing.assert_allclose(mean, 0.01 * x[MASK].mean(0), rtol=1e-3, atol=1e-6)


def test_dice_gates_by_its_statistics_out_of_training():
    layer = drawn(TargetAttention([4, 3], "dice"))
    x = {"query": Q, "keys": K, "mask": MASK}
    np.testing.assert_allclose(layer(Q, K, mask=MASK), with_dice(layer, x), rtol=1e-4, atol=1e-5)


def test_both_ways_of_running_agree():
    fused = drawn(TargetAttention([4, 3], "relu"))
    plain = TargetAttention([4, 3], "leaky_relu")
    assert (fused.fused, plain.fused) == (True, False)
    plain.activations = [keras.layers.ReLU(), keras.layers.ReLU()]
    drawn(plain).set_weights(fused.get_weights())
    np.testing.assert_allclose(plain(Q, K, mask=MASK), fused(Q, K, mask=MASK), rtol=1e-4, atol=1e-5)
    assert TargetAttention([4], keras.activations.relu).fused


def test_parameters():
    def count(**options):
        layer = TargetAttention([8, 4], **options)
        layer(Q, K)
        return layer.count_params()

    network = 4 * D * 8 + 8 + 8 * 4 + 4 + 4
    assert count() == network
    # The softmax would not see a last bias.
    assert count(weight_normalization=False) == network + 1
    assert count(activation="prelu") == network + 8 + 4
    # alpha, moving mean and variance
    assert count(activation="dice") == network + 3 * (8 + 4)


def test_raw_scores_weigh_without_a_softmax():
    layer = drawn(TargetAttention([4], weight_normalization=False, return_weights=True))
    pooled, weights = layer(Q, K, mask=MASK)
    assert np.abs(np.sum(weights, axis=1) - 1).min() > 0.01
    want = ops.target_attention(Q, K, layer.kernels, layer.biases, MASK, normalize=False)
    np.testing.assert_allclose(weights, want[1], rtol=1e-5)
    np.testing.assert_allclose(pooled, np.einsum("bt,btd->bd", weights, K), rtol=1e-4, atol=1e-5)


def test_kernels_differ_and_follow_the_seed():
    def kernels(seed):
        layer = TargetAttention([12, 12], seed=seed)
        layer.build((None, D))
        return [np.asarray(kernel) for kernel in layer.kernels]

    one, two, other = kernels(1), kernels(1), kernels(2)
    assert not np.allclose(one[0], one[1])
    for a, b, c in zip(one, two, other):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)
    limit = np.sqrt(6 / (4 * D + 12))
    assert 0.9 * limit < np.abs(one[0]).max() <= limit


@pytest.mark.parametrize("activation", ["sigmoid", "dice"])
def test_float16_weighs_in_float32(activation):
    wide, narrow = (
        TargetAttention([4], activation, return_weights=True, dtype=dtype)
        for dtype in ("float32", "mixed_float16")
    )
    for layer in (wide, narrow):
        layer.build((None, D))
        # A first layer of zeros: all keys weigh the same, whatever it rounds to.
        layer.set_weights([np.zeros(w.shape) for w in layer.weights])
    keys = np.repeat(K, 600, axis=1)
    for got, want in zip(narrow(Q, keys), wide(Q, keys.astype(np.float16).astype(np.float32))):
        assert got.dtype == tf.float16
        np.testing.assert_allclose(got, want, rtol=2**-11, atol=1e-7)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"`hidden_units\[1\]` must be a positive integer, got 0"):
        TargetAttention([4, 0])
    with pytest.raises(ValueError, match=r"keys must have shape \[B, T, 3\], got \[4, 5, 2\]"):
        TargetAttention()(Q, K[..., 1:])
    with pytest.raises(ValueError, match=r"keys must have shape \[B, T, 3\], got \[4, 5, 2\]"):
        TargetAttention(activation="dice")(Q, K[..., 1:])
    with pytest.raises(ValueError, match="mask must be bool"):
        TargetAttention(activation="dice")(Q, K, mask=MASK.astype(np.float32))
    with pytest.raises(ValueError, match="static D"):
        TargetAttention().build((None, None))
