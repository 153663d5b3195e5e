"""MLP and Dice: statistics, masks, residuals and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recops._core import dispatch
from recops._core.compat import keras
from recops.layers import MLP, Dice


def test_dice_is_batch_normalization_and_a_gate():
    x = np.random.default_rng(0).normal(2.0, 3.0, size=(64, 5)).astype(np.float32)
    dice = Dice(epsilon=1e-3, alpha_initializer="random_normal")
    norm = keras.layers.BatchNormalization(epsilon=1e-3, center=False, scale=False)
    for training in (True, True, False):
        gate = tf.sigmoid(norm(x, training=training))
        want = gate * x + (1 - gate) * np.asarray(dice.alpha if dice.built else 0) * x
        if not dice.built:
            dice(x)
            want = gate * x + (1 - gate) * np.asarray(dice.alpha) * x
        np.testing.assert_allclose(dice(x, training=training), want, rtol=1e-4, atol=1e-5)
    assert not np.allclose(dice(x, training=True), dice(x, training=False))


def test_dice_starts_from_alpha_0_a_channel():
    dice = Dice()
    dice.build((None, 7, 3))
    assert np.asarray(dice.alpha).tolist() == [0, 0, 0]


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_dice_rounds_once_in_16_bits(policy):
    dice, wide = Dice(dtype=policy, alpha_initializer="ones"), Dice(alpha_initializer="ones")
    x = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
    x = tf.cast(tf.cast(x, dice.compute_dtype), tf.float32)
    for layer in (dice, wide):
        layer.build((None, 5))
        alpha, *statistics = layer.get_weights()
        layer.set_weights([0.25 * alpha, *statistics])
    want = tf.cast(wide(x, training=True), dice.compute_dtype)
    np.testing.assert_array_equal(dice(x, training=True), want)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_dice_of_a_constant_channel_is_finite_in_16_bits(policy):
    dice = Dice(dtype=policy)
    x = tf.ones((8, 2), dice.compute_dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = dice(x, training=True)
    assert np.isfinite(tf.cast(y, tf.float32)).all()
    assert np.isfinite(tf.cast(tape.gradient(y, x), tf.float32)).all()


def test_dice_statistics_skip_what_is_masked():
    x = np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32)
    mask = np.arange(6)[None] < np.array([1, 3, 6, 2])[:, None]
    padded = np.where(mask[..., None], x, np.nan)
    masked, packed = Dice(), Dice()
    masked(padded, training=True, mask=mask)
    packed(x[mask], training=True)
    for got, want in zip(masked.get_weights(), packed.get_weights()):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_what_is_masked_reaches_no_output_or_gradient_of_dice():
    x = np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32)
    mask = np.arange(6)[None] < np.array([1, 3, 6, 2])[:, None]
    padded = tf.constant(np.where(mask[..., None], x, np.nan))
    dice = Dice()
    with tf.GradientTape() as tape:
        tape.watch(padded)
        y = dice(padded, training=True, mask=mask)
    assert not np.any(y.numpy()[~mask])
    gradient = tape.gradient(y, padded).numpy()
    assert np.isfinite(gradient).all()
    assert not gradient[~mask].any()


@pytest.mark.parametrize("use_bn", [False, True])
def test_what_is_masked_reaches_no_statistic_of_an_mlp(use_bn):
    x = np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32)
    mask = np.arange(6)[None] < np.array([1, 3, 6, 2])[:, None]
    results = []
    for filler in (5.0, -7.0):
        mlp = MLP([4], "dice", use_bn=use_bn, seed=1)
        y = mlp(np.where(mask[..., None], x, filler), training=True, mask=mask)
        results.append([y.numpy()[mask], *mlp.get_weights()])
    for one, other in zip(*results):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_mlp_with_a_seed_repeats_itself_and_its_layers_differ():
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    one, two, other = (MLP([4, 4], dropout=0.5, seed=seed) for seed in (3, 3, 4))
    # In graphs, as in fit: eager dropout of Keras 2 goes on in a stream that layers share.
    drawn = [tf.function(lambda mlp=mlp: mlp(x, training=True))() for mlp in (one, two, other)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    first, second = (np.asarray(dense.kernel) for dense in one.dense)
    assert not np.allclose(first, second)
    assert not np.allclose(first, np.asarray(other.dense[0].kernel))
    unseeded = MLP([4, 4])
    unseeded(x)
    first, second = (np.asarray(dense.kernel) for dense in unseeded.dense)
    assert not np.allclose(first, second)


def test_mlp_order_is_dense_normalization_activation_dropout():
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    mlp = MLP([3], activation="sigmoid", use_bn=True, dropout=0.25)
    y = mlp(x, training=True).numpy()
    kept = y[y != 0] * 0.75
    assert ((kept > 0) & (kept < 1)).all()
    assert np.median(kept) == pytest.approx(0.5, abs=0.1)


def test_mlp_residual_adds_the_input_where_widths_agree():
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    plain, residual = MLP([4, 3], seed=1), MLP([4, 3], seed=1, residual=True)
    hidden = x + np.maximum(x @ np.asarray((plain(x), plain)[1].dense[0].kernel), 0)
    want = np.maximum(hidden @ np.asarray(plain.dense[1].kernel), 0)
    np.testing.assert_allclose(residual(x), want, rtol=1e-5, atol=1e-6)


def test_mlp_penalty_and_weights():
    mlp = MLP([2], l2=0.5, kernel_initializer="ones", activation="prelu", use_bias=False)
    mlp(np.ones((1, 3), np.float32))
    assert float(sum(mlp.losses)) == pytest.approx(0.5 * 6)
    assert len(mlp.weights) == 2  # kernel and PReLU's slope
    assert MLP([2]).losses == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"hidden_units": []}, "at least one layer"),
        ({"hidden_units": [8, 0]}, r"hidden_units\[1\] must be a positive integer, got 0"),
        ({"hidden_units": [8, 4], "dropout": [0.1]}, "one for each of the 2 layers"),
        ({"hidden_units": [8], "dropout": 1.0}, r"one rate in \[0, 1\)"),
    ],
)
def test_mlp_refuses(arguments, said):
    with pytest.raises(ValueError, match=said):
        MLP(**arguments)


@pytest.mark.parametrize(
    ("policy", "shape", "runs"),
    [
        ("float32", (2, 5), []),
        ("float32", (2, 3, 5), ["dense", "dense"]),
        ("mixed_bfloat16", (2, 5), ["dense", "dense"]),
        ("mixed_float16", (2, 5), ["dense", "dense"]),
    ],
)
def test_a_float32_matrix_is_left_to_keras(policy, shape, runs):
    mlp = MLP([4, 3], "relu", dtype=policy)
    mlp.build((None, *shape[1:]))
    with dispatch.noting() as noted:
        mlp(np.ones(shape, np.float32))
    assert [op for op, _ in noted] == runs


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", None, "gelu", "dice", "prelu"])
@pytest.mark.parametrize("use_bn", [False, True])
def test_16_bits_agree_with_float32(use_bn, activation):
    """With the activation inside the op, and with it and a normalization behind it."""
    x = np.random.default_rng(3).normal(size=(8, 6)).astype(np.float32)
    wide = MLP([5, 4], activation, use_bn=use_bn, seed=1)
    narrow = MLP([5, 4], activation, use_bn=use_bn, seed=1, dtype="mixed_bfloat16")
    want, got = wide(x), tf.cast(narrow(x), tf.float32)
    np.testing.assert_allclose(got, want, atol=0.03 * np.abs(want).max())
