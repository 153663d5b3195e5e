"""Losses against their formulas in NumPy, in value and gradient, with and without a mask."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recops import losses

MASK = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 1]], bool)


def logits(dtype=np.float32):
    rng = np.random.default_rng(0)
    return rng.normal(size=(3, 3)).astype(dtype), rng.normal(size=(3, 3)).astype(dtype)


def auxiliary(clicks, negatives, mask, count):
    """Zhou 2019, eq. 7, over the kept steps."""
    clicks, negatives = (1 / (1 + np.exp(-x.astype(np.float64))) for x in (clicks, negatives))
    return -np.sum((np.log(clicks) + np.log(1 - negatives))[mask]) / count


@pytest.mark.parametrize(("reduction", "count"), [("masked_mean", 4), ("mean", 9)])
@pytest.mark.parametrize("jit", [False, True])
def test_auxiliary_loss_is_the_papers(reduction, count, jit):
    clicks, negatives = logits()

    @tf.function(jit_compile=jit)
    def step(c, n):
        with tf.GradientTape() as tape:
            tape.watch([c, n])
            loss = losses.auxiliary_loss(c, n, MASK, reduction)
        return loss, *tape.gradient(loss, [c, n])

    loss, dclicks, dnegatives = step(tf.constant(clicks), tf.constant(negatives))
    assert float(loss) == pytest.approx(auxiliary(clicks, negatives, MASK, count), rel=1e-6)
    np.testing.assert_allclose(dclicks, MASK * (1 / (1 + np.exp(-clicks)) - 1) / count, atol=1e-6)
    np.testing.assert_allclose(dnegatives, MASK / (1 + np.exp(-negatives)) / count, atol=1e-6)


def test_auxiliary_loss_without_a_mask_keeps_all():
    clicks, negatives = logits()
    want = auxiliary(clicks, negatives, np.ones_like(MASK), 9)
    for reduction in losses.REDUCTIONS:
        got = losses.auxiliary_loss(clicks, negatives, reduction=reduction)
        assert float(got) == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("spoilt", [np.nan, np.inf, -np.inf])
def test_auxiliary_loss_never_sees_padding(spoilt):
    clicks, negatives = logits()
    results = []
    for value in (0.0, spoilt):
        pair = [
            tf.constant(np.where(MASK, x, value).astype(np.float32)) for x in (clicks, negatives)
        ]
        with tf.GradientTape() as tape:
            tape.watch(pair)
            loss = losses.auxiliary_loss(*pair, MASK)
        results.append([loss, *tape.gradient(loss, pair)])
    for got, want in zip(*results):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("reduction", losses.REDUCTIONS)
def test_auxiliary_loss_of_nothing_is_zero(reduction):
    clicks, negatives = logits()
    for c, n, m in (
        (clicks, negatives, np.zeros_like(MASK)),
        (clicks[:, :0],) * 2 + (MASK[:, :0],),
    ):
        assert float(losses.auxiliary_loss(c, n, m, reduction)) == 0


def test_auxiliary_loss_is_float32_for_16_bit_logits():
    # In float16, 1 - sigmoid(12) is 0 and its logarithm infinite.
    clicks, negatives = np.full((1, 1), -12, np.float16), np.full((1, 1), 12, np.float16)
    loss = losses.auxiliary_loss(clicks, negatives)
    assert loss.dtype == tf.float32
    assert float(loss) == pytest.approx(24.0, rel=1e-5)
    assert losses.auxiliary_loss(*logits(np.float64)).dtype == tf.float64


def test_auxiliary_loss_says_what_is_wrong():
    clicks, negatives = logits()
    with pytest.raises(ValueError, match="reduction must be one of masked_mean, mean, got 'sum'"):
        losses.auxiliary_loss(clicks, negatives, reduction="sum")
    with pytest.raises(ValueError, match=r"negative_logits must have shape \[3, 3\], got \[3, 2\]"):
        losses.auxiliary_loss(clicks, negatives[:, :2])
    with pytest.raises(ValueError, match="mask must be bool"):
        losses.auxiliary_loss(clicks, negatives, MASK.astype(np.float32))


def weighted(watched, p):
    """Covington 2016, 4.2: clicks weigh their watch time, the others 1."""
    p = p.astype(np.float64)
    return np.where(watched > 0, -watched * np.log(p), -np.log(1 - p))


def impressions(rows=40, dtype=np.float32):
    rng = np.random.default_rng(4)
    watched = np.where(rng.random(rows) < 0.3, rng.gamma(2, 5, rows), 0)
    return watched, rng.normal(size=rows).astype(dtype)


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("jit", [False, True])
def test_weighted_crossentropy_is_the_papers(from_logits, jit):
    watched, z = impressions()
    p = 1 / (1 + np.exp(-z))

    @tf.function(jit_compile=jit)
    def step(y, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = losses.weighted_binary_crossentropy(y, x, from_logits=from_logits)
        return loss, tape.gradient(loss, x)

    loss, gradient = step(tf.constant(watched[:, None]), tf.constant(z if from_logits else p))
    np.testing.assert_allclose(loss, weighted(watched, p), rtol=1e-5)
    over_z = np.where(watched > 0, -watched * (1 - p), p)
    want = over_z if from_logits else over_z / (p * (1 - p))
    np.testing.assert_allclose(gradient, want, rtol=1e-4)


def test_weighted_crossentropy_takes_labels_and_times_apart():
    watched, z = impressions()
    want = losses.weighted_binary_crossentropy(watched, z, from_logits=True)
    # What stands where nothing was clicked is not looked at.
    times = np.where(watched > 0, watched, np.nan)
    got = losses.weighted_binary_crossentropy(watched > 0, z, times, from_logits=True)
    np.testing.assert_array_equal(got, want)
    below = losses.weighted_binary_crossentropy(
        np.where(watched > 0, watched, -1), z, from_logits=True
    )
    np.testing.assert_array_equal(below, want)


def test_weighted_crossentropy_of_a_unit_each_is_that_of_keras():
    watched, z = impressions()
    clicks, p = (watched > 0).astype(np.float32)[:, None], tf.sigmoid(z)[:, None]
    got = losses.weighted_binary_crossentropy(clicks, p)
    np.testing.assert_allclose(got, tf.keras.losses.binary_crossentropy(clicks, p), rtol=1e-5)


def test_odds_that_fit_best_are_watch_time_per_impression_not_clicked():
    watched, _ = impressions()
    z = tf.Variable(0.0)
    for _ in range(50):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(
                losses.weighted_binary_crossentropy(watched, tf.repeat(z, 40), from_logits=True)
            )
        z.assign_sub(0.5 * tape.gradient(loss, z))
    assert float(tf.exp(z)) == pytest.approx(watched.sum() / (watched == 0).sum(), rel=1e-3)


def test_weighted_crossentropy_is_finite_at_the_ends_and_float32():
    z = tf.constant([-60000.0, 60000.0, 12.0, -12.0], tf.float16)
    loss = losses.weighted_binary_crossentropy([0, 1, 0, 2], z, from_logits=True)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, [0, 0, 12, 24], atol=1e-4)
    ends = losses.weighted_binary_crossentropy([0, 3], np.array([1, 0], np.float32))
    # Half a step of float32 below 1 is 6e-8.
    np.testing.assert_allclose(ends, [16.1, 48.35], rtol=0.02)
    assert np.isnan(losses.weighted_binary_crossentropy([np.nan], [0.5])[0])
    with pytest.raises(ValueError, match=r"y_true must have a row for each of y_pred, \[2\], got"):
        losses.weighted_binary_crossentropy([1, 0, 1], [0.5, 0.5])


def test_weighted_crossentropy_in_compile_and_after_a_reload(tmp_path):
    watched, z = impressions()
    keras = tf.keras
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Activation("sigmoid")(inputs))
    want = weighted(watched, 1 / (1 + np.exp(-z)))
    for loss in (losses.weighted_binary_crossentropy, losses.WeightedBinaryCrossentropy()):
        model.compile("sgd", loss)
        model.save(tmp_path / "model.keras")
        for one in (model, keras.models.load_model(tmp_path / "model.keras")):
            got = one.evaluate(z[:, None], watched[:, None], batch_size=40, verbose=0)
            assert got == pytest.approx(want.mean(), rel=1e-5)
    again = keras.losses.deserialize(
        keras.losses.serialize(losses.WeightedBinaryCrossentropy(from_logits=True))
    )
    assert again.from_logits
    weights = np.arange(40) % 2
    got = float(again(watched, z, sample_weight=weights))
    assert got == pytest.approx((want * weights).mean(), rel=1e-5)
