"""What was watched in MovieLens 100K: no row knows its future, and all users weigh alike."""

from __future__ import annotations

import numpy as np
import pytest

from recops.data import example_age, movielens, movielens_100k
from recops.data.movielens_retrieval import by_frequency, in_time, last_two, leave_one_out

PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def raw():
    return in_time(movielens.load().ratings)


@pytest.fixture(scope="module")
def data():
    return movielens_100k("retrieval")


@pytest.fixture(scope="module")
def pairs():
    return movielens_100k("leave_one_out")


def watched_at(raw, films):
    """[user, id] when each user watched each film that train has; far in the future if never."""
    ids = np.zeros(raw[:, 1].max() + 1, np.int64)
    ids[films] = np.arange(len(films))
    times = np.full((raw[:, 0].max() + 1, len(films)), np.iinfo(np.int64).max)
    times[raw[:, 0], ids[raw[:, 1]]] = raw[:, 3]
    return times, ids


def test_the_last_film_is_the_test_and_the_one_before_validation(raw, data):
    assert [len(getattr(data, part)) for part in PARTS] == [98_114, 943, 943]
    films = data.values["item"]
    for user in (1, 196, 943):
        own = raw[raw[:, 0] == user]
        assert (np.diff(own[:, 3]) >= 0).all()
        for part, place in (("validation", -2), ("test", -1)):
            split = getattr(data, part)
            assert films[split.inputs["item"][split.groups == user]] == own[place, 1]
    part = last_two(raw)
    for user in np.unique(raw[:, 0]):
        assert part[raw[:, 0] == user].tolist()[-3:] == [0, 1, 2]
    assert last_two(raw[:0]).tolist() == []
    assert last_two(np.array([[1, 5, 3, 9], [1, 6, 3, 9], [2, 5, 3, 9]])).tolist() == [0, 0, 0]


def test_no_history_holds_its_row_or_anything_later(raw, data):
    times, _ = watched_at(raw, data.values["item"])
    times[:, 0] = 0
    part = last_two(raw)
    for which, name in enumerate(PARTS):
        now = raw[part == which, 3]
        split = getattr(data, name)
        history = split.inputs["hist_item"]
        assert (times[split.groups[:, None], history] < now[:, None]).all()
        # And no less: the latest one is what was watched last before.
        known = np.where(times[split.groups] < now[:, None], times[split.groups], 0).max(axis=1)
        assert (times[split.groups[:, None], history].max(axis=1) == known).all()


def test_that_check_sees_a_leak(raw, data):
    times, _ = watched_at(raw, data.values["item"])
    part, split = last_two(raw), data.test
    label = split.inputs["item"][:, None]
    known = label[:, 0] > 0
    assert not (times[split.groups[:, None], label] < raw[part == 2, 3][:, None])[known].any()


def test_what_is_seen_is_all_that_came_before_and_never_the_label(raw, data):
    _, ids = watched_at(raw, data.values["item"])
    part = last_two(raw)
    for name, known in (("validation", part == 0), ("test", part < 2), ("serving", part < 3)):
        split = getattr(data, name)
        seen = split.inputs["seen_item"]
        for user in (1, 196, 943):
            of_user = ids[raw[(raw[:, 0] == user) & known, 1]]
            assert set(seen[split.groups == user].ravel()) - {0} == set(of_user) - {0}
        if name != "serving":
            label = split.inputs["item"][:, None]
            assert not ((seen == label) & (label > 0)).any()


def test_ids_are_in_order_of_frequency_in_train(data):
    counts = np.bincount(data.train.inputs["item"])
    assert counts[0] == 0
    assert (np.diff(counts[1:]) <= 0).all()
    ids, values = by_frequency(np.array([7, 5, 5, 9, 3]), np.array([True, True, True, True, False]))
    assert (ids.tolist(), values.tolist()) == ([2, 1, 1, 3, 0], [0, 5, 7, 9])


def test_the_age_of_examples_ends_with_train_and_is_0_afterwards(raw, data):
    age = data.train.inputs["example_age"][:, 0]
    assert (age.min(), age.max()) == (0, 1)
    time = raw[last_two(raw) == 0, 3]
    assert (np.argsort(time, kind="stable")[0], time.argmax()) == (age.argmax(), age.argmin())
    for part in (data.validation, data.test, data.serving):
        assert not part.inputs["example_age"].any()


def test_example_age():
    assert example_age([10, 30], latest=20, scale=5).tolist() == [2, -2]
    assert example_age([[7], [7]]).tolist() == [[0], [0]]
    assert example_age([]).shape == (0,)
    wrong = ([np.nan], {}), (["a"], {}), ([1], {"scale": 0}), ([1], {"latest": np.nan})
    for times, options in wrong:
        with pytest.raises(ValueError, match="example_age: "):
            example_age(times, **options)


def test_every_user_may_have_as_many_samples(data):
    few = movielens_100k("retrieval", samples_per_user=40)
    assert set(np.unique(few.train.groups, return_counts=True)[1]) == {40}
    busy = few.train.inputs["item"][few.train.groups == 13]
    assert len(set(busy)) == 40
    assert len(few.test) == len(data.test)
    for options in ({"task": "ranking", "samples_per_user": 3}, {"samples_per_user": 0}):
        with pytest.raises(ValueError, match="samples_per_user must be 1 or more"):
            movielens_100k(**{"task": "retrieval", **options})


def test_serving_knows_everything(raw, data):
    assert len(data.serving) == 943
    films = data.values["item"]
    for user in (1, 196):
        own = [film for film in raw[raw[:, 0] == user, 1] if film in films][-50:]
        history = data.serving.inputs["hist_item"][data.serving.groups == user][0]
        assert films[history[: len(own)]].tolist() == own


def test_left_out_films_have_99_others_that_were_never_watched(raw, pairs):
    films = pairs.values["item"]
    for split in (pairs.validation, pairs.test):
        assert len(split) == 943 * 100
        item = split.inputs["item"].reshape(943, 100)
        assert split.labels.reshape(943, 100)[:, 0].all()
        assert split.labels.sum() == 943
        for row, user in enumerate(split.groups[::100]):
            assert len(set(item[row, 1:])) == 99
            assert not set(films[item[row, 1:]]) & set(raw[raw[:, 0] == user, 1])


def test_train_draws_four_others_anew_for_every_epoch(pairs):
    train = pairs.train
    assert len(train) == 5 * 98_114
    labels = train.labels.reshape(-1, 5)
    assert labels[:, 0].all()
    assert not labels[:, 1:].any()
    keys = train.inputs["user"].astype(np.int64) * 2000 + train.inputs["item"]
    own = keys[train.labels[:, 0] > 0]
    drawn = {}
    for epoch in (0, 1):
        ((inputs, truth),) = train.batches(len(train), shuffle=True, seed=3, epoch=epoch)
        found = inputs["user"].numpy().astype(np.int64) * 2000 + inputs["item"].numpy()
        clicked = truth.numpy()[:, 0] > 0
        assert set(found[clicked]) == set(own)
        assert not np.isin(found[~clicked], own).any()
        drawn[epoch] = np.sort(found[~clicked])
    assert (drawn[0] != drawn[1]).any()
    ((again, _),) = train.batches(len(train), shuffle=True, seed=3, epoch=1)
    np.testing.assert_array_equal(again["item"], inputs["item"])


def test_too_few_films_to_choose_from():
    small = movielens.MovieLens(
        (movielens.User(1, 30, "M", "writer"),),
        tuple(movielens.Item(i, 1990, ()) for i in range(1, 6)),
        np.array([[1, i, 4, i] for i in range(1, 6)]),
    )
    with pytest.raises(ValueError, match="99 films that user 1 has not watched are needed, got 0"):
        leave_one_out(small)
