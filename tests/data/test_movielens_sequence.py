"""The sequence task of MovieLens 100K: no history holds what its row's time does not know yet."""

import operator
from dataclasses import replace

import numpy as np
import pytest

from recops.data import movielens, movielens_100k
from recops.data.movielens_ranking import split
from recops.data.movielens_sequence import sequence
from tests.data.test_movielens import DAY, ITEMS, USERS, grouplens_files

PARTS = ("train", "validation", "test")
HALF_HOUR = 1800


@pytest.fixture(scope="session")
def raw():
    return movielens.load()


@pytest.fixture(scope="session")
def data():
    return movielens_100k("sequence")


class ByHand:
    """Histories of one row at a time, straight from the ratings."""

    def __init__(self, ratings, before=operator.lt):
        self.ratings = ratings.tolist()
        self.before = before
        self.part = split(ratings)
        known = sorted({row[1] for row, part in zip(self.ratings, self.part) if part == 0})
        self.id = {item: place + 1 for place, item in enumerate(known)}
        self.of_user = {}
        for row in self.ratings:
            self.of_user.setdefault(row[0], []).append(row)

    def clicks(self, row):
        user, _, _, now = self.ratings[row]
        return [
            (time, self.id[item])
            for _, item, rating, time in self.of_user[user]
            if rating >= 4 and item in self.id and self.before(time, now)
        ]

    def history(self, row, length):
        ids = [item for _, item in self.clicks(row)][-length:]
        return ids + [0] * (length - len(ids))

    def sessions(self, row):
        sessions, last = [], -np.inf
        for time, item in self.clicks(row):
            if time - last >= HALF_HOUR:
                sessions.append([])
            sessions[-1].append(item)
            last = time
        sessions = [session[-10:] for session in sessions[-5:]] + [[]] * 5
        return [session + [0] * (10 - len(session)) for session in sessions[:5]]

    def differences(self, data, every, length=50):
        """Rows of each part whose history, and whose sessions, are others."""
        found = {}
        for which, name in enumerate(PARTS):
            inputs = getattr(data, name).inputs
            chosen = list(enumerate(np.flatnonzero(self.part == which)))[::every]
            assert chosen
            found[name] = (
                sum(inputs["hist_item"][i].tolist() != self.history(n, length) for i, n in chosen),
                sum(inputs["sess_item"][i].tolist() != self.sessions(n) for i, n in chosen),
            )
        return found


def test_histories_are_those_of_the_raw_ratings(raw, data):
    assert ByHand(raw.ratings).differences(data, every=97) == dict.fromkeys(PARTS, (0, 0))


@pytest.mark.parametrize(
    "leak",
    [
        operator.le,
        lambda time, now: time < now - 1,
    ],
    ids=["what shares the second", "a second too early"],
)
def test_that_comparison_sees_a_second(raw, data, leak):
    found = ByHand(raw.ratings, leak).differences(data, every=997)
    for name in PARTS:
        assert min(found[name]) > 0


def test_no_history_holds_its_own_row_or_anything_later(raw, data):
    # By another way than the comparison: through the one time at which a user clicks a film.
    part = split(raw.ratings)
    user, item, rating, time = raw.ratings.T
    known = np.unique(item[part == 0])
    times = np.full((user.max() + 1, len(known) + 1), np.iinfo(np.int64).max)
    clicks = (rating >= 4) & np.isin(item, known)
    times[user[clicks], np.searchsorted(known, item[clicks]) + 1] = time[clicks]
    times[:, 0] = 0
    for which, name in enumerate(PARTS):
        rows = part == which
        for feature in ("hist_item", "sess_item"):
            ids = getattr(data, name).inputs[feature].reshape(rows.sum(), -1)
            assert (times[user[rows, None], ids] < time[rows, None]).all()
        negatives = getattr(data, name).inputs["neg_hist_item"]
        kept = negatives > 0
        assert (times[user[rows, None], negatives] >= time[rows, None])[kept].all()


def test_a_small_set_by_hand():
    minute = 60
    ratings = [
        # A click, a rating that is none, two clicks in one second, a pause, and again.
        *[(1, 1, 5, DAY), (1, 2, 3, DAY + minute), (1, 4, 4, DAY + 2 * minute)],
        *[(1, 3, 5, DAY + 2 * minute), (1, 5, 1, DAY + 3 * minute)],
        # Item 6 is in no train row.
        *[(1, 6, 5, DAY + 40 * minute), (1, 7, 4, DAY + 41 * minute)],
        *[(2, 7, 5, DAY), (2, 1, 2, DAY + 50 * minute), (2, 2, 4, DAY + 50 * minute)],
    ]
    items = [*ITEMS, (6, "Six", "(1990)", ("Drama",)), (7, "Seven", "(1995)", ("Crime",))]
    small = movielens.parse(grouplens_files(USERS, items, ratings))
    assert split(small.ratings).tolist() == [0] * 5 + [1, 2] + [0, 0, 2]
    data = sequence(small, max_length=2)
    assert {f.name: f.vocabulary_size for f in data.features}["hist_item"] == 6
    history = data.train.inputs["hist_item"].tolist()
    assert history == [[0, 0], [1, 0], [1, 0], [1, 0], [3, 4], [0, 0], [6, 0]]
    assert data.validation.inputs["hist_item"].tolist() == [[3, 4]]
    # The click of the validation row is one of a film that train does not have.
    assert data.test.inputs["hist_item"].tolist() == [[3, 4], [6, 0]]
    sessions = data.test.inputs["sess_item"]
    assert sessions.shape == (2, 5, 10)
    assert sessions[0, 0].tolist() == [1, 3, 4] + [0] * 7
    assert not sessions[0, 1:].any()


def test_a_set_without_clicks_has_empty_histories():
    ratings = [(user, item, 2, DAY + item) for user in (1, 2, 3) for item in (1, 2, 3, 4, 5)]
    small = movielens.parse(grouplens_files(USERS, ITEMS, ratings))
    data = sequence(small, max_length=3)
    for name in ("hist_item", "neg_hist_item", "sess_item"):
        assert not data.train.inputs[name].any()


def test_rows_and_other_inputs_are_those_of_the_ranking_task(data):
    ranking = movielens_100k()
    assert data.features[: len(ranking.features)] == ranking.features
    for name in PARTS:
        here, there = getattr(data, name), getattr(ranking, name)
        np.testing.assert_array_equal(here.labels, there.labels)
        np.testing.assert_array_equal(here.groups, there.groups)
        for feature, values in there.inputs.items():
            np.testing.assert_array_equal(here.inputs[feature], values)


def test_features_point_at_the_item(data):
    history, negatives, sessions = data.features[-3:]
    assert (history.target, history.max_length) == ("item", 50)
    assert (negatives.negative_of, negatives.max_length) == ("hist_item", 50)
    assert (sessions.target, sessions.sessions, sessions.max_length) == ("item", 5, 10)


def test_each_kept_step_has_a_negative_by_popularity(data):
    history, negatives = (data.train.inputs[name] for name in ("hist_item", "neg_hist_item"))
    np.testing.assert_array_equal(history > 0, negatives > 0)
    # Popular films are drawn more often, but less so than they are clicked.
    clicks = np.bincount(history[history > 0], minlength=negatives.max() + 1)
    drawn = np.bincount(negatives[negatives > 0], minlength=len(clicks))
    popular = np.argsort(-clicks)[:100]
    share = clicks[popular].sum() / clicks.sum(), drawn[popular].sum() / drawn.sum()
    assert 2 * 100 / len(clicks) < share[1] < share[0]


def test_length_and_seed(raw):
    some = replace(raw, ratings=raw.ratings[:9000])
    first, again, other = (
        sequence(some, max_length=7, seed=seed).train.inputs for seed in (1, 1, 2)
    )
    assert first["hist_item"].shape[1:] == (7,)
    np.testing.assert_array_equal(first["hist_item"], other["hist_item"])
    np.testing.assert_array_equal(first["neg_hist_item"], again["neg_hist_item"])
    kept = first["hist_item"] > 0
    assert (first["neg_hist_item"] == other["neg_hist_item"])[kept].mean() < 0.05


def test_empty_histories_are_as_the_docstring_says(data):
    shares = [float((getattr(data, n).inputs["hist_item"] == 0).all(1).mean()) for n in PARTS]
    assert shares == pytest.approx([0.045, 0.0007, 0.0005], rel=0.12)
