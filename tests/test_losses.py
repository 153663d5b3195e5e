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
