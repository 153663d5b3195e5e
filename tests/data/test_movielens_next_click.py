"""Clicks in order: nothing that is asked for stands in what is given, and all of it is next."""

from __future__ import annotations

import numpy as np
import pytest

from recops.data import movielens_100k
from recops.data.movielens import MovieLens
from recops.data.movielens_next_click import HELD_OUT, next_click
from tests.models.planted_retrieval import rings


@pytest.fixture(scope="module")
def data():
    return movielens_100k("next_click", max_length=20)


def test_rows_of_a_user_who_is_known_by_heart():
    made = next_click(rings(), max_length=8)
    assert [len(part) for part in (made.train, made.validation, made.test)] == [24 * 5, 24, 24]
    assert made.values["item"].tolist() == [0, *range(100, 111)]
    start = 12
    for user in range(24):
        ring = 1 + (3 * (user + 1) + np.arange(16)) % 11
        third = made.train.inputs["source"][5 * user + 2]
        assert third.tolist() == [*ring[:3], *[0] * 5]
        # Five clicks follow each, but only those that are no validation.
        assert made.train.labels[5 * user + 2].tolist() == [*ring[3:6], 0, 0]
        assert made.train.inputs["target"][5 * user + 2].tolist() == [start, *ring[3:6], 0]
        for part, n in ((made.validation, 6), (made.test, 11)):
            source = [*ring[:n][-8:], *[0] * max(0, 8 - n)]
            assert part.inputs["source"][user].tolist() == source
            assert part.labels[user].tolist() == ring[n : n + 5].tolist()
            assert part.inputs["target"][user].tolist() == [start, *ring[n : n + 4]]
            assert part.inputs["item"][user] == ring[n]
            assert part.inputs["seen_item"][user].tolist() == ring[:n].tolist()


def test_splits_of_real_clicks(data):
    film = data.features[0].vocabulary_size
    for part in (data.validation, data.test):
        assert len(part) == len(np.unique(part.groups))
        following = part.labels[:, None]
        assert not ((part.inputs["seen_item"][:, :, None] == following) & (following > 0)).any()
    # Of the test all that is held out for validation is known.
    seen = data.test.inputs["seen_item"][:, :, None] == data.validation.labels[:, None]
    assert (seen.any(axis=1) | (data.validation.labels == 0)).all()
    assert data.train.labels.shape == (len(data.train), HELD_OUT)
    assert data.train.labels.max() == film
    assert (data.train.inputs["target"][:, 0] == film + 1).all()
    np.testing.assert_array_equal(data.train.inputs["target"][:, 1:], data.train.labels[:, :-1])
    np.testing.assert_array_equal(data.train.inputs["item"], data.train.labels[:, 0])


def test_users_who_click_too_little_are_an_error():
    with pytest.raises(ValueError, match="no user has more than 10 clicks"):
        next_click(MovieLens((), (), np.array([(1, t, 5, t) for t in range(10)])))
