"""MovieLens 100K: both layouts, the split by time, and the encoding."""

from datetime import datetime, timezone

import numpy as np
import pytest

from recops.data import DataError, movielens, movielens_100k
from recops.data.movielens_ranking import ranking, split

USERS = [
    (1, 24, "M", "writer"),
    (2, 57, "F", "doctor"),
    (3, 17, "M", "student"),
]
ITEMS = [
    # id, title, what follows it, genres; odd in the ways that the published set is odd.
    (1, "Toy Story", "(1995)", ("Animation", "Children's", "Comedy")),
    (2, "Misérables, Les", "(1935)", ("Drama", "Musical")),
    (3, "unknown", "", ()),
    (4, "Land (1901) Before Time III", "(1995) (V)", ("Animation", "Children's")),
    (5, "Never Seen in Train", "(1998)", ("War",)),
]
# A Thursday, 00:00 UTC.
DAY = 881_193_600 - 881_193_600 % 604_800
RATINGS = [
    # Ten ratings: 7 train, 1 validation, 2 test. The two last in time come first in the file.
    *[(1, 5, 4, DAY + 90 * 3600), (1, 1, 5, DAY + 80 * 3600)],
    *[(1, 1 + n % 4, 1 + n % 5, DAY + n * 3600) for n in range(8)],
    *[(2, 1, 4, DAY + 30), (2, 2, 3, DAY + 20)],
    # Equal times: the item id decides, so items 3 and 4 are validation and test.
    *[(3, item, 5, DAY + 5) for item in (4, 2, 1, 3)],
]


def grouplens_files(users, items, ratings):
    names = ("unknown", *movielens.GENRES)
    rows = []
    for id, title, suffix, genres in items:
        flags = [str(int(name in genres or (name == "unknown" and not genres))) for name in names]
        date = f"01-Jan-{suffix[1:5]}" if suffix else ""
        rows.append("|".join([str(id), f"{title} {suffix}".strip(), date, "", "", *flags]))
    return {
        "u.user": "\n".join("|".join(map(str, (*user, "12345"))) for user in users).encode(),
        "u.item": "\n".join(rows).encode("latin-1"),
        "u.data": "\n".join("\t".join(map(str, row)) for row in ratings).encode(),
    }


def atomic_files(users, items, ratings):
    def table(header, rows):
        return "\n".join([header, *("\t".join(map(str, row)) for row in rows), ""]).encode()

    rows = []
    for id, title, suffix, genres in items:
        # The last brackets hold the year, whatever is in them.
        before, _, last = f"{title} {suffix}".strip().rpartition(" ")
        title, year = (before, last.strip("()")) if suffix else ("unkonwn", "unkonwn")
        rows.append((id, title, year, " ".join(genres) or "unknown"))
    return {
        "ml-100k.user": table(
            "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token",
            [(*user, "12345") for user in users],
        ),
        "ml-100k.item": table(
            "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq", rows
        ),
        "ml-100k.inter": table(
            "user_id:token\titem_id:token\trating:float\ttimestamp:float", ratings
        ),
    }


@pytest.fixture(scope="module")
def tiny():
    return movielens.parse(grouplens_files(USERS, ITEMS, RATINGS))


@pytest.fixture(scope="session")
def real():
    return movielens.load()


@pytest.fixture(scope="session")
def data():
    return movielens_100k()


def test_parse_reads_the_published_layout(tiny):
    assert tiny.users == tuple(movielens.User(*user) for user in USERS)
    assert [item.year for item in tiny.items] == [1995, 1935, 0, 1995, 1998]
    assert tiny.items[0].genres == ("Animation", "Children's", "Comedy")
    assert tiny.items[2].genres == ()
    assert tiny.ratings.shape == (len(RATINGS), 4)
    assert sorted(map(tuple, tiny.ratings.tolist())) == sorted(RATINGS)


def test_both_layouts_of_a_small_set_give_the_same_bytes(tiny):
    other = movielens.parse(atomic_files(USERS, ITEMS, RATINGS[::-1]))
    assert movielens._encode(other) == movielens._encode(tiny)


def test_canonical_bytes_read_back(tiny):
    again = movielens._decode(movielens._encode(tiny))
    assert (again.users, again.items) == (tiny.users, tiny.items)
    np.testing.assert_array_equal(again.ratings, tiny.ratings)


def test_windows_line_ends_change_nothing(tiny):
    files = grouplens_files(USERS, ITEMS, RATINGS)
    crlf = {name: data.replace(b"\n", b"\r\n") for name, data in files.items()}
    assert movielens._encode(movielens.parse(crlf)) == movielens._encode(tiny)


@pytest.mark.parametrize(
    ("name", "line", "reason"),
    [
        ("u.data", b"1\t1\t5", r"u\.data line 17: expected 4 fields, got 3"),
        ("u.data", b"1\tone\t5\t6", r"u\.data line 17: could not convert string to float: 'one'"),
        ("u.data", b"9\t1\t5\t6", r"u\.data rates with id 9, which u\.user lacks"),
        ("u.data", b"1\t99\t5\t6", r"u\.data rates with id 99, which u\.item lacks"),
        ("u.user", b"4|x|M|writer|1", r"u\.user line 4: invalid literal"),
        ("u.item", b"6|Film (1990)|", r"u\.item line 6: expected 24 fields, got 3"),
    ],
)
def test_a_broken_line_is_named(name, line, reason):
    files = grouplens_files(USERS, ITEMS, RATINGS)
    files[name] += b"\n" + line
    with pytest.raises(DataError, match=reason):
        movielens.parse(files)


def test_a_small_set_is_not_taken_for_the_real_one(tmp_path, monkeypatch):
    for name, content in grouplens_files(USERS, ITEMS, RATINGS).items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.setenv("RECOPS_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"RECOPS_DATA=.*holds 16 ratings, the set has 100000"):
        movielens_100k()


def test_split_of_a_small_set(tiny):
    parts = {user: split(tiny.ratings)[tiny.ratings[:, 0] == user] for user in (1, 2, 3)}
    assert parts[1].tolist() == [0] * 7 + [1] + [2] * 2
    assert parts[2].tolist() == [0, 0]
    assert parts[3].tolist() == [0, 0, 0, 2]
    assert tiny.ratings[tiny.ratings[:, 0] == 3, 1].tolist() == [1, 2, 3, 4]


def test_encoding_is_fitted_on_train_only(tiny):
    data = ranking(tiny)
    sizes = {feature.name: feature.vocabulary_size for feature in data.features}
    # Item 5 and its genre and year, and the hours of the test rows, are in no train row.
    assert sizes["item"] == 4
    assert sizes["genres"] == 5
    assert sizes["user"] == 3
    last = {name: values[1] for name, values in data.test.inputs.items()}
    assert data.test.groups.tolist() == [1, 1, 3]
    assert last["item"] == 0
    assert last["release_year"] == 0
    assert last["hour"] == 0
    assert last["genres"].tolist() == [0] * 6
    assert data.test.inputs["item"][0] == 1


def test_hour_weekday_and_click(tiny):
    data = ranking(tiny)
    hours = data.train.inputs["hour"][data.train.groups == 1]
    assert hours.tolist() == [1, 2, 3, 4, 5, 6, 7]
    # DAY is a Thursday and all of train is within it.
    assert set(data.train.inputs["weekday"]) == {1}
    assert data.train.labels[:, 0].tolist()[:7] == [0, 0, 0, 1, 1, 0, 0]
    assert data.train.labels.dtype == np.float32


def test_a_film_without_a_year_or_genre_has_id_0(tiny):
    train = ranking(tiny).train.inputs
    unknown = train["item"] == 3
    assert unknown.any()
    assert not train["release_year"][unknown].any()
    assert not train["genres"][unknown].any()
    assert train["release_year"][~unknown].all()


def test_the_real_set_has_its_published_counts(real):
    assert (len(real.users), len(real.items), len(real.ratings)) == (943, 1682, 100_000)
    assert np.bincount(real.ratings[:, 2]).tolist() == [0, 6110, 11370, 27145, 34174, 21201]
    genres = [genre for item in real.items for genre in item.genres]
    assert {g: genres.count(g) for g in ("Drama", "Comedy", "Fantasy")} == {
        "Drama": 725,
        "Comedy": 505,
        "Fantasy": 22,
    }
    assert len({user.occupation for user in real.users}) == 21
    assert [item.id for item in real.items if not item.year] == [267]


def test_the_real_wheel_and_its_conversion_give_the_same_bytes(real, tmp_path, monkeypatch):
    (_, wheel) = movielens._recipe().downloads
    files = wheel.read()
    expected = movielens._encode(real)
    assert movielens._canonical(files) == expected

    def rows(name):
        lines = files[name].decode().splitlines()[1:]
        return [line.split("\t") for line in lines]

    items = []
    for id, title, year, genres in rows("ml-100k.item"):
        suffix = "" if year == "unkonwn" else f"({year})"
        items.append((id, title, suffix, set(genres.split()) - {"unknown"}))
    published = grouplens_files(
        [user[:4] for user in rows("ml-100k.user")], items, rows("ml-100k.inter")
    )
    assert b"(1995) (V)|" in published["u.item"]
    assert b"Mis\xe9rables" in published["u.item"]
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    for name, content in published.items():
        (folder / name).write_bytes(content)
    monkeypatch.setenv("RECOPS_DATA", str(tmp_path))
    assert movielens._encode(movielens.load()) == expected

    (folder / "u.data").write_bytes(published["u.data"][:-200])
    with pytest.raises(DataError, match=r"line \d+|holds 999\d\d ratings"):
        movielens.load()
    (folder / "u.data").write_bytes(published["u.data"].replace(b"\t881250949", b"\t881250948", 1))
    with pytest.raises(DataError, match="the content is not the expected one"):
        movielens.load()


def test_no_user_trains_on_what_comes_after_the_test(real):
    part = split(real.ratings)
    for user in np.unique(real.ratings[:, 0]):
        rows = real.ratings[:, 0] == user
        times = [real.ratings[rows & (part == which), 3] for which in range(3)]
        assert times[0].max() <= times[1].min()
        assert times[1].max() <= times[2].min()
        assert abs(len(times[2]) - 0.2 * rows.sum()) <= 0.5
        assert abs(len(times[1]) - 0.1 * rows.sum()) <= 0.5


def test_the_real_task_holds_every_rating_once(real, data):
    assert len(data.train) + len(data.validation) + len(data.test) == 100_000
    assert len(data.test) == pytest.approx(20_000, abs=100)
    assert len(data.validation) == pytest.approx(10_000, abs=100)
    clicks = sum(float(part.labels.sum()) for part in (data.train, data.validation, data.test))
    assert clicks == 34174 + 21201
    assert [feature.name for feature in data.features] == [
        *("user", "item", "age", "gender", "occupation", "hour", "weekday", "release_year"),
        "genres",
    ]
    assert (data.train.inputs["item"] > 0).all()
    assert 0 < (data.test.inputs["item"] == 0).mean() < 0.02
    assert data.train.inputs["genres"].shape == (len(data.train), 6)


def test_real_hours_and_weekdays_are_those_of_the_calendar(real, data):
    # All 24 hours and 7 days are in train, so an id is the hour or weekday plus one.
    seconds = real.ratings[split(real.ratings) == 2, 3]
    for row in range(0, len(seconds), 997):
        moment = datetime.fromtimestamp(int(seconds[row]), timezone.utc)
        assert data.test.inputs["hour"][row] == moment.hour + 1
        assert data.test.inputs["weekday"][row] == moment.weekday() + 1


def test_the_same_call_gives_the_same_data(data):
    again = movielens_100k(seed=0)
    assert again.features == data.features
    for name in data.test.inputs:
        np.testing.assert_array_equal(again.test.inputs[name], data.test.inputs[name])


def test_bad_arguments():
    with pytest.raises(ValueError, match="'retrieval', 'leave_one_out', 'next_click', got 'rank'"):
        movielens_100k("rank")
    with pytest.raises(ValueError, match="max_length must be 1 or more, got 0"):
        movielens_100k(max_length=0)
