"""The cross-entropy of padded sequences, against float64 NumPy and in a model."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recops._core.compat import keras
from recops.losses import masked_crossentropy

RNG = np.random.default_rng(0)
LABELS = np.array([[3, 1, 0, 0], [2, 4, 4, 0], [0, 0, 0, 0]])
LOGITS = RNG.normal(size=(3, 4, 5)) * 3
KEPT = LABELS != 0


def oracle(smoothing, weight=1.0):
    total = 0.0
    for b, t in zip(*np.nonzero(KEPT)):
        log_p = LOGITS[b, t] - np.log(np.exp(LOGITS[b, t]).sum())
        q = np.full(5, smoothing / 5)
        q[LABELS[b, t]] += 1 - smoothing
        total -= (q * log_p).sum() * np.broadcast_to(weight, KEPT.shape)[b, t]
    return total / KEPT.sum()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-12), ("bfloat16", 1e-2)]
)
def test_it_is_the_mean_over_what_is_not_padding(smoothing, dtype, tolerance):
    loss = masked_crossentropy(smoothing)(LABELS, tf.cast(LOGITS, dtype))
    assert loss.dtype == (tf.float64 if dtype == "float64" else tf.float32)
    assert float(loss) == pytest.approx(oracle(smoothing), rel=tolerance)


def test_sample_weights_are_factors():
    loss = masked_crossentropy(0.1)
    rows, steps = np.array([2.0, 0.5, 3.0]), RNG.uniform(size=(3, 4))
    assert float(loss(LABELS, LOGITS, rows)) == pytest.approx(oracle(0.1, rows[:, None]))
    assert float(loss(LABELS, LOGITS, steps)) == pytest.approx(oracle(0.1, steps))


def test_smoothing_is_that_of_keras():
    theirs = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)
    want = theirs(np.eye(5)[LABELS[KEPT]], LOGITS[KEPT])
    assert float(masked_crossentropy(0.2)(LABELS, LOGITS)) == pytest.approx(float(want), rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_nan_at_padding_reaches_neither_loss_nor_gradient(smoothing):
    logits = tf.constant(np.where(KEPT[..., None], LOGITS, np.nan))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = masked_crossentropy(smoothing)(LABELS, logits, np.where(KEPT, 1.0, np.nan))
    assert float(loss) == pytest.approx(oracle(smoothing))
    gradient = tape.gradient(loss, logits).numpy()
    assert np.isfinite(gradient).all()
    assert not gradient[~KEPT].any()


def test_nothing_but_padding_is_0():
    assert float(masked_crossentropy()(0 * LABELS, LOGITS)) == 0


def test_a_model_trains_with_it_and_reloads(tmp_path):
    model = keras.Sequential(
        [keras.Input((4,), dtype="int32"), keras.layers.Embedding(5, 5, mask_zero=True)]
    )
    model.compile(keras.optimizers.SGD(1.0), masked_crossentropy(label_smoothing=0.1))
    losses = model.fit(LABELS, LABELS, batch_size=3, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.loss.get_config() == model.loss.get_config()
    assert again.loss.label_smoothing == 0.1
    assert again.evaluate(LABELS, LABELS, verbose=0) == pytest.approx(
        model.evaluate(LABELS, LABELS, verbose=0)
    )


def test_unfit_smoothing_is_refused():
    with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 1\), got 1"):
        masked_crossentropy(1)
