"""YoutubeDNNRanking: it learns watch time, serves it, in 16 bit too, and after a reload."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from recops import losses
from recops._core.compat import keras
from recops.data import Percentiles, percentile_features
from recops.features import DenseFeature, SequenceFeature, SparseFeature
from recops.models import YoutubeDNNRanking

FEATURES = [
    SparseFeature("video", 6, 4),
    SequenceFeature("watched", 6, max_length=3, embedding_dim=4, target="video"),
    DenseFeature("age", dimension=3),
]
# Mean watch time of a click on each video, and how often it is clicked.
LENGTH = np.array([0, 1, 2, 4, 8, 16, 32])
RATE = np.array([0, 0.3, 0.2, 0.2, 0.3, 0.2, 0.3])


def impressions(rows, seed=0):
    rng = np.random.default_rng(seed)
    video = rng.integers(1, 7, rows).astype(np.int32)
    age = rng.exponential(100, rows)
    batch = {
        "video": video,
        "watched": rng.integers(0, 7, (rows, 3)).astype(np.int32),
        "age": percentile_features(age, Percentiles.fit(np.linspace(0, 600, 100))),
    }
    clicked = rng.random(rows) < RATE[video]
    watched = np.where(clicked, LENGTH[video] * rng.uniform(0.5, 1.5, rows), 0)
    return batch, watched.astype(np.float32)[:, None]


def build(**options):
    return YoutubeDNNRanking(FEATURES, seed=1, **{"hidden_units": (16, 8), **options})


@pytest.fixture(scope="module")
def trained():
    model = build()
    model.compile(
        keras.optimizers.Adam(0.01), losses.weighted_binary_crossentropy, jit_compile=False
    )
    batch, watched = impressions(16384)
    model.fit(batch, watched, batch_size=512, epochs=6, verbose=0)
    return model


def test_it_serves_the_watch_time_per_impression_not_clicked(trained):
    batch, _ = impressions(2000, seed=1)
    served = trained.serving_model.predict(batch, verbose=0)
    assert served.shape == (2000, 1)
    for video in range(2, 7):
        want = RATE[video] * LENGTH[video] / (1 - RATE[video])
        got = served[batch["video"] == video].mean()
        assert got == pytest.approx(want, rel=0.25), video


def test_what_is_served_are_the_odds_in_the_same_order(trained):
    batch, _ = impressions(50, seed=2)
    p = trained.predict(batch, verbose=0).astype(np.float64)
    served = trained.serving_model.predict(batch, verbose=0)
    np.testing.assert_allclose(served, p / (1 - p), rtol=1e-3)
    np.testing.assert_array_equal(np.argsort(served[:, 0]), np.argsort(p[:, 0]))


def test_the_serving_model_has_the_weights_of_the_model():
    model = build()
    batch, _ = impressions(4)
    before = model.serving_model(batch).numpy()
    model.get_layer("output_logit").bias.assign([1.0])
    np.testing.assert_allclose(model.serving_model(batch), before * np.e, rtol=1e-5)


def test_all_features_are_read():
    model = build()
    batch, _ = impressions(8)
    before = model(batch).numpy()
    for name, values in batch.items():
        moved = {**batch, name: np.roll(values, 1, axis=0)}
        assert not np.allclose(model(moved), before, atol=1e-7), name


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_watch_time_beyond_16_bit_is_served(policy):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = build()
        serving = model.serving_model
    finally:
        keras.mixed_precision.set_global_policy(before)
    logit = model.get_layer("output_logit")
    logit.set_weights([np.zeros((8, 1)), np.full(1, 20.0)])
    batch, _ = impressions(4)
    served = serving(batch)
    assert served.dtype == tf.float32
    # float16 ends at 65504.
    np.testing.assert_allclose(served, np.exp(20.0), rtol=1e-5)


_SERVE = """
import sys
import numpy as np
import recops
import tensorflow as tf
folder = sys.argv[1]
batch = dict(np.load(folder + "/batch.npz"))
model = tf.keras.models.load_model(folder + "/model.keras")
assert model.loss is recops.losses.weighted_binary_crossentropy
alone = tf.keras.models.load_model(folder + "/serving.keras")
for one in (model.serving_model, alone):
    np.testing.assert_allclose(one(batch), np.load(folder + "/served.npy"), rtol=1e-5)
"""


def test_it_reloads_in_a_fresh_process_and_so_does_the_serving_model(trained, tmp_path):
    batch, _ = impressions(20, seed=3)
    np.savez(tmp_path / "batch.npz", **batch)
    np.save(tmp_path / "served.npy", trained.serving_model(batch))
    trained.save(tmp_path / "model.keras")
    trained.serving_model.save(tmp_path / "serving.keras")
    command = [sys.executable, "-c", _SERVE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_regression_has_no_odds():
    with pytest.raises(ValueError, match="expected watch time needs a model of task='binary'"):
        _ = build(task="regression").serving_model
