"""Dropout drops what its seed says, and its draws are cheap in a graph and under jit."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from recops._core.compat import keras
from recops.layers.dropout import Dropout


def _steps(jit: bool, seed: int = 3, shape: tuple[int, ...] = (64, 32)) -> list[np.ndarray]:
    layer = Dropout(0.25, seed=seed)
    step = tf.function(lambda x: layer(x, training=True), jit_compile=jit)
    return [step(tf.ones(shape)).numpy() for _ in range(3)]


@pytest.mark.parametrize("jit", [False, True])
def test_a_quarter_is_dropped_and_the_rest_made_up_for(jit: bool) -> None:
    first, second, _ = _steps(jit, shape=(512, 64))
    assert set(np.unique(first.round(4))) == {0.0, np.float32(1.3333)}
    assert np.mean(first == 0) == pytest.approx(0.25, abs=0.01)
    assert (first != second).any()


@pytest.mark.needs("keras3", "Keras 2 keeps the state of its draws to itself")
@pytest.mark.parametrize("jit", [False, True])
def test_a_seed_drops_the_same_again(jit: bool) -> None:
    for one, same, other in zip(_steps(jit), _steps(jit), _steps(jit, seed=4)):
        np.testing.assert_array_equal(one, same)
        assert (one != other).any()


@pytest.mark.needs("keras3", "Keras 2 draws by a generator of its own")
def test_draws_under_jit_cost_little() -> None:
    """Half a million numbers: Keras's own layer takes some 170 ms, this one two."""
    layer = Dropout(0.5)
    step = tf.function(lambda x: layer(x, training=True), jit_compile=True)
    x = tf.ones([1024, 448])
    step(x)
    seconds = []
    for _ in range(7):
        start = time.process_time()
        step(x)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.03


def test_it_is_kerass_otherwise(tmp_path: Any) -> None:
    layer = Dropout(0.5, noise_shape=(4, 1), seed=1)
    x = tf.random.stateless_normal([4, 6], (1, 2))
    np.testing.assert_array_equal(layer(x), x)
    kept = layer(x, training=True).numpy() != 0
    assert (kept == kept[:, :1]).all()
    model = keras.Sequential([keras.Input((6,)), layer, Dropout(0.1), keras.layers.Dense(1)])
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again.layers[0]) is Dropout
    np.testing.assert_array_equal(again(x), model(x))
