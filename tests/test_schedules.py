"""The Noam schedule: its formula, its peak, and its way through a saved optimizer."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recops._core.compat import keras
from recops.schedules import Noam


def test_noam_is_its_formula_in_float64():
    steps = np.array([1, 2, 50, 99, 100, 101, 1000, 10**6])
    want = 128**-0.5 * np.minimum(steps**-0.5, steps * 100**-1.5)
    rates = [float(Noam(128, 100)(tf.constant(step))) for step in steps]
    np.testing.assert_allclose(rates, want, rtol=1e-6)


@pytest.mark.parametrize("warmup", [1, 7, 4000])
def test_the_peak_is_exactly_at_the_end_of_warmup(warmup):
    rates = np.array([float(Noam(64, warmup)(step)) for step in range(warmup + 3)])
    assert rates.argmax() == warmup
    assert (rates == rates.max()).sum() == 1
    assert rates[warmup] == pytest.approx((64 * warmup) ** -0.5, rel=1e-6)
    assert rates[0] == 0


def test_a_model_trains_by_it_and_keeps_it_in_its_file(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(Noam(4, 3)), "mse")
    x = np.ones((4, 2), np.float32)
    before = model.get_weights()[0]
    model.fit(x, x[:, :1], epochs=2, verbose=0)
    assert not np.array_equal(before, model.get_weights()[0])
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert int(np.asarray(again.optimizer.iterations)) == 2
    kept = again.optimizer._learning_rate
    assert isinstance(kept, Noam)
    assert kept.get_config() == {"d_model": 4, "warmup_steps": 3}


def test_unfit_arguments_are_refused():
    with pytest.raises(ValueError, match="`warmup_steps` must be a positive integer, got 0"):
        Noam(64, 0)
