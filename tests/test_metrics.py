"""Metrics against scikit-learn, by hand, and on bad input."""

import time

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics

from recops.metrics import auc, gauc, log_loss


def sample(seed, rows=2000, ties=True):
    rng = np.random.default_rng(seed)
    predictions = rng.random(rows)
    if ties:
        predictions = predictions.round(1)
    return rng.integers(0, 2, rows), predictions, rng.integers(0, 40, rows)


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_auc_equals_scikit_learn(dtype, ties):
    labels, predictions, _ = sample(0, ties=ties)
    predictions = predictions.astype(dtype)
    assert auc(labels, predictions) == pytest.approx(
        sklearn.metrics.roc_auc_score(labels, predictions), abs=1e-14
    )


def test_gauc_is_the_impression_weighted_mean_over_groups_with_both_classes():
    labels, predictions, groups = sample(1, rows=300)
    areas, weights = [], []
    for group in np.unique(groups):
        rows = groups == group
        if len(set(labels[rows])) == 2:
            areas.append(sklearn.metrics.roc_auc_score(labels[rows], predictions[rows]))
            weights.append(rows.sum())
    labels_one_class = np.append(labels, [1, 1, 1])
    expected = np.average(areas, weights=weights)
    assert len(set(weights)) > 1
    assert gauc(labels, predictions, groups) == pytest.approx(expected, abs=1e-14)
    assert gauc(
        labels_one_class, np.append(predictions, [0.1, 0.2, 0.3]), np.append(groups, [99] * 3)
    ) == pytest.approx(expected, abs=1e-14)


def test_gauc_of_one_group_is_auc_and_ignores_offsets_between_groups():
    labels, predictions, groups = sample(2)
    assert gauc(labels, predictions, np.zeros(len(labels), int)) == auc(labels, predictions)
    assert gauc(labels, predictions.round(1) + groups, groups) == pytest.approx(
        gauc(labels, predictions, groups)
    )


def test_gauc_takes_strings_columns_and_any_order_of_rows():
    labels, predictions, groups = sample(3)
    expected = gauc(labels, predictions, groups)
    assert gauc(labels, predictions, np.char.mod("user %d", groups)) == expected
    shuffled = np.random.default_rng(0).permutation(len(labels))
    columns = labels[shuffled, None].astype("float32"), predictions[shuffled, None]
    assert gauc(*columns, groups[shuffled]) == expected


@pytest.mark.parametrize(
    "groups",
    [
        ["a", None, "a"],
        ["a", float("nan"), "a"],
        np.array([1, np.nan, 1]),
        np.array([1, np.nan, 1], object),
        np.array(["2020", "NaT", "2020"], "M8[ns]"),
        pd.Series(["a", pd.NA, "a"]),
        pd.Series([1, None, 1], dtype="Int64"),
    ],
)
def test_gauc_needs_a_group_for_each_row(groups):
    with pytest.raises(
        ValueError, match=r"gauc: each row needs a group, got \S+ in row 1 \(1 of 3"
    ):
        gauc([0, 1, 1], [0.1, 0.2, 0.3], groups)


def test_gauc_keeps_large_integers_of_a_list_apart():
    assert gauc([0, 1, 0, 1], [0.1, 0.2, 0.4, 0.3], [2**63, 2**63, 2**63 + 1, -1]) == 1
    with pytest.raises(ValueError, match="gauc: groups must be integers or strings"):
        gauc([0, 1], [0.1, 0.2], np.array([[1], "a"], object))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log_loss_equals_scikit_learn_at_the_ends_too(dtype):
    labels, predictions, _ = sample(4)
    predictions = predictions.astype(dtype)
    assert {0.0, 1.0} <= set(predictions.tolist())
    assert log_loss(labels, predictions) == pytest.approx(
        sklearn.metrics.log_loss(labels, predictions), rel=1e-6
    )


def test_one_class_is_enough_for_log_loss():
    assert log_loss([1, 1], [0.5, 0.5]) == pytest.approx(np.log(2))


@pytest.mark.parametrize("metric", [auc, log_loss, lambda y, p: gauc(y, p, [0, 0, 0])])
def test_bad_input_is_named(metric):
    with pytest.raises(ValueError, match="got 3 labels but 2 predictions"):
        metric([0, 1, 1], [0.1, 0.2])
    with pytest.raises(ValueError, match=r"finite, got nan at row 1 \(1 of 3 rows\)"):
        metric([0, 1, 1], [0.1, np.nan, 0.2])
    with pytest.raises(ValueError, match="finite, got inf at row 2"):
        metric([0, 1, 1], [0.1, 0.2, np.inf])
    with pytest.raises(ValueError, match="labels must be 0 or 1, got 4"):
        metric([0, 4, 1], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"labels must be 0 or 1, got nan"):
        metric([0, np.nan, 1], [0.1, 0.2, 0.3])


def test_what_cannot_be_ranked_is_an_error():
    with pytest.raises(ValueError, match=r"auc: needs both a 0 and a 1 .* got 2 labels of 1 only"):
        auc([1, 1], [0.1, 0.2])
    with pytest.raises(ValueError, match=r"auc: needs both a 0 and a 1 .* got 0 labels"):
        auc([], [])
    with pytest.raises(ValueError, match=r"gauc: needs a group .* none in 2 groups of 3 rows"):
        gauc([1, 1, 0], [0.1, 0.2, 0.3], [1, 1, 2])
    with pytest.raises(ValueError, match="gauc: got 2 labels but 3 groups"):
        gauc([1, 0], [0.1, 0.2], [1, 1, 2])
    with pytest.raises(ValueError, match=r"probabilities in 0\.\.1, got 1\.5; apply a sigmoid"):
        log_loss([1, 0], [1.5, 0.2])
    with pytest.raises(ValueError, match="log_loss: needs at least one row"):
        log_loss([], [])


@pytest.mark.parametrize("text", [False, True])
def test_a_million_rows_take_about_a_second_at_most(text):
    labels, predictions, _ = sample(5, rows=1_000_000, ties=False)
    groups = np.random.default_rng(0).integers(0, 50_000, len(labels))
    if text:
        groups = np.char.mod("user %d", groups)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        gauc(labels, predictions, groups)
        times.append(time.perf_counter() - start)
    # Several times the usual 0.3 s (0.5 s of text), because test machines are shared; a loop over
    # groups, or a sort of the text, takes far longer than this.
    assert min(times) < 1.5
