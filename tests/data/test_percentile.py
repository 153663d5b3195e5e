"""Percentiles against scikit-learn and by hand, with ties, NaN and new values."""

from __future__ import annotations

import json

import numpy as np
import pytest
import sklearn.preprocessing

from recops.data import Percentiles, percentile_features


def numbers(kind, rows=3000):
    rng = np.random.default_rng(0)
    if kind == "skewed":
        return np.exp(3 * rng.normal(size=rows))
    # Half of them 0, the rest of a few values each.
    return np.maximum(rng.integers(-8, 9, rows), 0)


@pytest.mark.parametrize("kind", ["skewed", "ties"])
@pytest.mark.parametrize("count", [11, 1001])
def test_equal_to_scikit_learn(kind, count):
    train, test = numbers(kind), np.linspace(-3, 30, 199)
    judge = sklearn.preprocessing.QuantileTransformer(n_quantiles=count, subsample=None)
    want = judge.fit(train[:, None]).transform(test[:, None])[:, 0]
    got = Percentiles.fit(train, count).transform(test)
    # It sets the least and greatest value to 0 and 1, however many examples share them.
    inner = (test != train.min()) & (test != train.max())
    np.testing.assert_allclose(got[inner], want[inner], atol=1e-6)


def test_the_training_data_itself_is_even():
    x = percentile_features(numbers("skewed"))
    assert x.shape == (3000, 3)
    assert x.dtype == np.float32
    np.testing.assert_allclose(np.histogram(x[:, 0], 10, (0, 1))[0], 300, atol=3)
    np.testing.assert_allclose(x[:, 1], x[:, 0].astype(np.float64) ** 2, atol=1e-7)
    np.testing.assert_allclose(x[:, 2], np.sqrt(x[:, 0].astype(np.float64)), atol=1e-7)


def test_test_data_is_placed_in_the_training_data():
    train = numbers("skewed")
    among = percentile_features(train)[:50]
    for reference in (train, train[:, None], Percentiles.fit(train)):
        np.testing.assert_array_equal(percentile_features(train[:50], reference), among)
    assert not np.allclose(percentile_features(train[:50]), among)


def test_what_lies_outside_and_what_is_missing():
    train = np.array([1.0, 2.0, np.nan, 3.0])
    got = percentile_features([-np.inf, 0.0, 2.0, 9.0, np.inf, np.nan], train)
    np.testing.assert_array_equal(got[:, 0], [0, 0, 0.5, 1, 1, 0.5])


def test_one_value_alone():
    np.testing.assert_array_equal(
        percentile_features([3.0, 4.0, 5.0], [4.0, 4.0])[:, 0], [0, 0.5, 1]
    )
    np.testing.assert_array_equal(percentile_features([4.0], [4.0])[:, 0], [0.5])


def test_a_value_that_many_share_gets_the_middle_of_its_range():
    train = [0] * 50 + list(range(1, 51))
    x = Percentiles.fit(train).transform([0, 0.5, 1])
    assert 0.24 < x[0] < 0.26
    assert x[1] > 0.49
    assert x[2] > x[1]


def test_quantiles_are_all_that_has_to_be_kept():
    train = numbers("ties")
    fitted = Percentiles.fit(train)
    again = Percentiles(json.loads(json.dumps(fitted.quantiles)))
    assert again == fitted
    np.testing.assert_array_equal(again.transform(train), fitted.transform(train))


def test_no_rows():
    assert percentile_features([], [1.0, 2.0]).shape == (0, 3)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: percentile_features(np.ones((2, 2))), r"\[N\] or \[N, 1\], got float64 of shape"),
        (lambda: percentile_features(["a"]), "must be numbers"),
        (lambda: percentile_features([1.0], [np.nan]), "at least one number that is not NaN"),
        (lambda: percentile_features([1.0], [np.inf]), "must be finite or NaN"),
        (lambda: Percentiles.fit([1.0], 1), "num_quantiles must be 2 or more, got 1"),
        (lambda: Percentiles([1.0]), "two or more finite numbers in ascending order"),
        (lambda: Percentiles([2.0, 1.0]), "ascending order"),
    ],
)
def test_wrong_input(make, said):
    with pytest.raises(ValueError, match=said):
        make()
