"""Sampled negatives: never the positive, and in the proportions that were asked for."""

import numpy as np
import pytest

from recops.data import sample_negatives


def shares(ids, size):
    return np.bincount(np.ravel(ids), minlength=size + 1) / np.size(ids)


def test_padding_stays_and_no_draw_is_the_positive_or_0():
    positives = np.random.default_rng(0).integers(0, 6, (300, 4, 5), dtype=np.int32)
    drawn = sample_negatives(positives, vocabulary_size=5)
    assert drawn.shape == positives.shape
    assert drawn.dtype == np.int32
    assert (drawn[positives == 0] == 0).all()
    kept = positives > 0
    assert (drawn[kept] != positives[kept]).all()
    assert drawn[kept].min() == 1
    assert drawn[kept].max() == 5


def test_the_seed_decides():
    positives = np.arange(1, 101)
    first = sample_negatives(positives, vocabulary_size=1000, seed=3)
    np.testing.assert_array_equal(first, sample_negatives(positives, vocabulary_size=1000, seed=3))
    assert (first != sample_negatives(positives, vocabulary_size=1000, seed=4)).any()


@pytest.mark.parametrize("positive", [1, 4, 8])
def test_without_counts_all_others_are_as_likely(positive):
    drawn = sample_negatives(np.full(100_000, positive), vocabulary_size=8, seed=positive)
    expected = np.full(9, 1 / 7)
    expected[[0, positive]] = 0
    # Five standard deviations of a share of 1/7.
    np.testing.assert_allclose(shares(drawn, 8), expected, atol=5 * np.sqrt(6 / 49 / 100_000))


@pytest.mark.parametrize("distortion", [0.0, 0.75, 1.0])
@pytest.mark.parametrize("positive", [1, 3, 6])
def test_counts_are_distorted(distortion, positive):
    counts = np.array([999, 1, 0, 50, 7, 400, 20])
    drawn = sample_negatives(
        np.full(200_000, positive), vocabulary_size=6, counts=counts, distortion=distortion
    )
    weights = np.array([0, 1, 0, 50**distortion, 7**distortion, 400**distortion, 20**distortion])
    weights[positive] = 0
    expected = weights / weights.sum()
    bound = 5 * np.sqrt(expected * (1 - expected) / 200_000)
    assert (np.abs(shares(drawn, 6) - expected) <= bound).all()


def test_what_is_excluded_is_not_drawn_and_the_rest_keeps_its_proportions():
    counts = np.array([0, 10, 20, 30, 40, 1000])
    positives = np.tile([[1], [2], [0]], (1, 100_000))
    # Almost all draws of the first row would be id 5, so many rounds of drawing anew do not do.
    drawn = sample_negatives(
        positives,
        vocabulary_size=5,
        counts=counts,
        distortion=1.0,
        exclude=[[5, 0], [3, 4], [1, 1]],
    )
    for row, weights in ((0, [0, 0, 20, 30, 40, 0]), (1, [0, 10, 0, 0, 0, 1000])):
        expected = np.array(weights) / sum(weights)
        bound = 5 * np.sqrt(expected * (1 - expected) / 100_000)
        assert (np.abs(shares(drawn[row], 5) - expected) <= bound).all()
    assert not drawn[2].any()


def test_a_row_with_one_id_left_gets_it():
    rare = np.zeros(2001)
    rare[1:] = 1
    rare[7] = 1e-9
    exclude = [[i for i in range(1, 2001) if i not in (7, 9)]] * 2
    drawn = sample_negatives([[9, 9], [7, 0]], vocabulary_size=2000, counts=rare, exclude=exclude)
    assert drawn.tolist() == [[7, 7], [9, 0]]


def test_a_million_with_one_id_that_outweighs_all():
    counts = np.ones(1001)
    counts[3] = 1e12
    drawn = sample_negatives(np.full(1_000_000, 3), vocabulary_size=1000, counts=counts)
    assert (drawn != 3).all()
    assert len(np.unique(drawn)) == 999


def test_nothing_to_draw_for():
    assert sample_negatives([], vocabulary_size=3).shape == (0,)
    assert sample_negatives(np.zeros((2, 0), int), vocabulary_size=3).shape == (2, 0)
    assert sample_negatives([0, 0], vocabulary_size=1, counts=[0, 0]).tolist() == [0, 0]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32"])
def test_narrow_positives_have_all_ids_for_negatives(dtype):
    drawn = sample_negatives(np.full((50, 40), 3, dtype), vocabulary_size=60_000)
    assert drawn.min() > 0
    assert drawn.max() > np.iinfo("int16").max
    assert sample_negatives(np.ones(3, dtype), vocabulary_size=127).dtype == dtype


@pytest.mark.parametrize("positive", [1, 3, 5])
def test_a_weight_beside_which_others_round_off_leaves_them_their_proportions(positive):
    counts = np.array([0, 3, 2, 1, 6, 4])
    counts[positive] = 0
    weights = counts.astype(float)
    weights[positive] = 3e16
    # So many that drawing one after another would take a minute.
    drawn = sample_negatives(
        np.full(100_000, positive), vocabulary_size=5, counts=weights, distortion=1
    )
    expected = counts / counts.sum()
    bound = 5 * np.sqrt(expected * (1 - expected) / 100_000)
    assert (np.abs(shares(drawn, 5) - expected) <= bound).all()


def test_excluded_ids_of_any_type_are_not_drawn():
    drawn = sample_negatives(
        [[1, 1]], vocabulary_size=3, counts=[0, 1, 1e15, 1e-9], exclude=np.array([[2]], "uint64")
    )
    assert drawn.tolist() == [[3, 3]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"positives": [1, 4]}, r"positives has the id 4, which is outside 0\.\.3"),
        ({"positives": [-1]}, r"positives has the id -1, which is outside 0\.\.3"),
        ({"positives": [1.0]}, "positives must be integers with an axis of rows, got float64"),
        ({"positives": 1}, "positives must be integers with an axis of rows"),
        ({"positives": [1], "vocabulary_size": 0}, "vocabulary_size must be 1 or more, got 0"),
        ({"positives": [1], "vocabulary_size": 1}, "no id is left to draw in row 0"),
        ({"positives": [0, 2], "exclude": [[1], [1]], "counts": [0, 1, 1, 0]}, "in row 1"),
        ({"positives": [2, 2], "exclude": [[1, 3], [0, 0]]}, "no id is left to draw in row 0"),
        ({"positives": [1, 2], "exclude": [[1]]}, r"exclude must have the shape \[2, E\], got \[1"),
        ({"positives": [1], "exclude": [[9]]}, r"exclude has the id 9, which is outside 0\.\.3"),
        ({"positives": [1], "counts": [1, 1, 1]}, r"one entry for each id 0\.\.3, got shape \[3\]"),
        ({"positives": [1], "counts": [0, 1, -1, 1]}, "counts must be finite and 0 or more"),
        ({"positives": [1], "distortion": float("nan")}, "distortion must be finite, got nan"),
        (
            {"positives": [1], "counts": [0, 1, 1e300, 1], "distortion": 2},
            r"1e\+300 \*\* 2 overflow",
        ),
        ({"positives": [1], "counts": [5, 0, 0, 0]}, "no id is left to draw in row 0: each is"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        sample_negatives(**{"vocabulary_size": 3, **arguments})
