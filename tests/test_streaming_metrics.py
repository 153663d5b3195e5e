"""Streaming metrics equal those on arrays, in batches, in graphs, in `fit`, and after a reload."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf

from recops import metrics
from recops._core.compat import keras

PAIRS = [(metrics.HitRate, metrics.hit_rate_at_k), (metrics.NDCG, metrics.ndcg_at_k)]
of_lists = pytest.mark.parametrize(("streaming", "on_arrays"), PAIRS)


def lists(ties, rows=80, count=12):
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 4, (rows, count)) * (rng.random((rows, count)) < 0.3)
    labels[:4] = 0
    scores = rng.random((rows, count)).astype(np.float32)
    return labels, scores.round(1) if ties else scores


def rows(ties, count=400):
    rng = np.random.default_rng(3)
    scores = rng.random(count).astype(np.float32)
    labels, groups = rng.integers(0, 2, count), rng.integers(0, 30, count)
    return labels, scores.round(1) if ties else scores, groups


def fed(metric, *arrays, mode="eager", size=None, **named):
    """The result after batches, of which the last is shorter but where each shape is compiled."""
    size = size or (20 if mode == "jit" else 70)

    def step(batch, rest):
        metric.update_state(*batch, **rest)
        return metric.result()

    if mode != "eager":
        step = tf.function(step, jit_compile=mode == "jit", reduce_retracing=True)
    for start in range(0, len(arrays[0]), size):
        take = slice(start, start + size)
        last = step(
            [tf.constant(array[take]) for array in arrays],
            {name: tf.constant(array[take]) for name, array in named.items()},
        )
    assert float(metric.result()) == pytest.approx(float(last), abs=1e-12, nan_ok=True)
    return float(last)


@of_lists
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("k", [1, 5, 12])
def test_of_lists_equal_those_on_arrays(streaming, on_arrays, k, ties):
    labels, scores = lists(ties)
    got = fed(streaming(k), labels, scores)
    assert got == pytest.approx(on_arrays(labels, scores, k), abs=1e-12)
    if streaming is metrics.NDCG:
        judge = sklearn.metrics.ndcg_score(labels[4:], scores[4:], k=k)
        some = labels[4:].any(axis=1)
        assert got == pytest.approx(judge * len(some) / some.sum())


@of_lists
@pytest.mark.parametrize("mode", ["graph", "jit"])
def test_of_lists_in_a_graph(streaming, on_arrays, mode):
    labels, scores = lists(ties=True)
    got = fed(streaming(5), labels, scores, mode=mode)
    assert got == pytest.approx(on_arrays(labels, scores, 5), abs=1e-12)


@of_lists
@pytest.mark.parametrize("column", [False, True])
def test_lists_have_weights(streaming, on_arrays, column):
    labels, scores = lists(ties=True)
    times = np.arange(80) % 3
    got = fed(streaming(3), labels, scores, sample_weight=times[:, None] if column else times)
    want = on_arrays(*(np.repeat(array, times, axis=0) for array in (labels, scores)), 3)
    assert got == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
    ("mode", "capacity"), [("eager", None), ("graph", None), ("eager", 500), ("jit", 500)]
)
def test_gauc_equals_that_on_arrays(mode, capacity, ties):
    labels, scores, groups = rows(ties)
    got = fed(metrics.GAUC(capacity), labels, scores, groups=groups, mode=mode)
    assert got == pytest.approx(metrics.gauc(labels, scores, groups), abs=1e-14)


def test_gauc_takes_groups_beside_the_labels():
    labels, scores, groups = rows(ties=True)
    got = fed(metrics.GAUC(), np.stack([labels, groups], axis=1), scores[:, None])
    assert got == pytest.approx(metrics.gauc(labels, scores, groups), abs=1e-14)


def test_weights_of_gauc_count_as_equal_rows():
    labels, scores, groups = rows(ties=True)
    times = np.arange(400) % 4
    got = fed(metrics.GAUC(), labels, scores, groups=groups, sample_weight=times)
    many = [np.repeat(array, times) for array in (labels, scores, groups)]
    assert got == pytest.approx(metrics.gauc(*many), abs=1e-14)
    fractions = np.random.default_rng(0).random(400)
    one = fed(metrics.GAUC(), labels, scores, groups=0 * groups, sample_weight=fractions)
    assert one == pytest.approx(
        sklearn.metrics.roc_auc_score(labels, scores, sample_weight=fractions), abs=1e-12
    )


def test_a_capacity_keeps_the_latest_rows():
    labels, scores, groups = rows(ties=True)
    got = fed(metrics.GAUC(100), labels, scores, groups=groups)
    want = metrics.gauc(labels[-100:], scores[-100:], groups[-100:])
    assert got == pytest.approx(want, abs=1e-14)
    one_batch = fed(metrics.GAUC(100), labels, scores, groups=groups, size=400)
    assert one_batch == got


def test_nothing_seen_is_0_and_a_reset_forgets():
    labels, scores, groups = rows(ties=False)
    for metric, arrays, more in (
        (metrics.GAUC(), (labels, scores), {"groups": groups}),
        (metrics.GAUC(500), (labels, scores), {"groups": groups}),
        (metrics.HitRate(3), lists(ties=False), {}),
        (metrics.NDCG(3), lists(ties=False), {}),
    ):
        assert float(metric.result()) == 0
        first = fed(metric, *arrays, **more)
        metric.reset_state()
        assert float(metric.result()) == 0
        assert fed(metric, *arrays, **more) == first > 0


def test_a_prediction_that_is_not_finite_spoils_the_result():
    labels, scores, groups = rows(ties=False)
    scores[5] = np.nan
    assert np.isnan(fed(metrics.GAUC(), labels, scores, groups=groups))
    without = np.arange(400) != 5
    weighted = fed(metrics.GAUC(), labels, scores, groups=groups, sample_weight=without)
    want = metrics.gauc(labels[without], scores[without], groups[without])
    assert weighted == pytest.approx(want, abs=1e-14)
    labels, scores = lists(ties=False)
    scores[20, 0] = np.inf
    for streaming, on_arrays in PAIRS:
        assert np.isnan(fed(streaming(3), labels, scores))
        without = np.arange(80) != 20
        weighted = fed(streaming(3), labels, scores, sample_weight=without)
        assert weighted == pytest.approx(on_arrays(labels[without], scores[without], 3), abs=1e-12)


def test_16_bit_scores():
    labels, scores = lists(ties=True)
    half = tf.cast(scores, tf.bfloat16)
    metric = metrics.NDCG(5)
    metric.update_state(labels, half)
    want = metrics.ndcg_at_k(labels, tf.cast(half, tf.float32).numpy(), 5)
    assert float(metric.result()) == pytest.approx(want, abs=1e-12)


def click_loss(y_true, y_pred):
    return keras.losses.binary_crossentropy(y_true[:, :1], y_pred)


@pytest.mark.parametrize("weighted", [False, True])
def test_gauc_in_fit_and_evaluate(weighted):
    labels, scores, groups = rows(ties=True)
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(inputs))
    kind = "weighted_metrics" if weighted else "metrics"
    model.compile("sgd", click_loss, jit_compile=False, **{kind: [metrics.GAUC()]})
    y = np.stack([labels, groups], axis=1).astype(np.float32)
    times = np.arange(400) % 3 if weighted else np.ones(400, int)
    given = {"sample_weight": times.astype(np.float32)} if weighted else {}
    log = model.fit(scores[:, None], y, batch_size=64, epochs=2, verbose=0, **given)
    assert 0 < log.history["gauc"][-1] < 1
    said = model.evaluate(scores[:, None], y, verbose=0, return_dict=True, **given)
    predicted = model.predict(scores[:, None], verbose=0)[:, 0]
    many = [np.repeat(array, times) for array in (labels, predicted, groups)]
    assert said["gauc"] == pytest.approx(metrics.gauc(*many), abs=1e-6)


@pytest.mark.parametrize("jit", [False, True])
def test_metrics_of_lists_in_fit_evaluate_and_after_a_reload(jit, tmp_path):
    labels, scores = lists(ties=True)
    inputs = keras.Input((12,))
    model = keras.Model(inputs, keras.layers.Dense(12)(inputs))
    chosen = [metrics.HitRate(3), metrics.NDCG(k=5), metrics.NDCG(2, name="mine")]
    model.compile("sgd", "mse", metrics=chosen, jit_compile=jit)
    y = labels.astype(np.float32)
    model.fit(scores, y, batch_size=16, verbose=0)
    predicted = model.predict(scores, verbose=0)
    want = {
        "hit_rate_at_3": metrics.hit_rate_at_k(labels, predicted, 3),
        "ndcg_at_5": metrics.ndcg_at_k(labels, predicted, 5),
        "mine": metrics.ndcg_at_k(labels, predicted, 2),
    }
    model.save(tmp_path / "model.keras")
    for one in (model, keras.models.load_model(tmp_path / "model.keras")):
        said = one.evaluate(scores, y, batch_size=16, verbose=0, return_dict=True)
        for name, value in want.items():
            assert said[name] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    "metric", [metrics.GAUC(7, name="mine"), metrics.HitRate(3), metrics.NDCG(4, name="mine")]
)
def test_config_round_trip(metric):
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert again.get_config() == metric.get_config()
    assert type(again) is type(metric)


def test_wrong_input():
    with pytest.raises(ValueError, match=r"GAUC: needs groups: pass groups=.*got y_true \(2, 1\)"):
        metrics.GAUC().update_state([[0], [1]], [0.1, 0.2])
    with pytest.raises(ValueError, match="GAUC: argument `capacity` must be a positive"):
        metrics.GAUC(0)
    for streaming, _ in PAIRS:
        with pytest.raises(ValueError, match="`k` must be a positive integer, got 0"):
            streaming(0)
        with pytest.raises(ValueError, match="k must be 1 to 2, got 3"):
            streaming(3).update_state([[0, 1]], [[0.1, 0.2]])
        with pytest.raises(ValueError, match=r"must both be \[Q, N\], got \(2,\) and \(2,\)"):
            streaming(1).update_state([0, 1], [0.1, 0.2])
