"""The reader of Amazon's reviews: histories that know nothing of the future, and negatives."""

import gzip
import importlib
import json

import numpy as np
import pytest

from recops.data import DataError, amazon, sample_negatives

DAY = 86_400
ITEMS = [f"B{i:03d}" for i in range(30)]


def category(item):
    return f"Kind {int(item[1:]) % 4}"


@pytest.fixture(scope="module")
def reviews():
    """(user, item, time), and a first user who reviews three items on one day."""
    random = np.random.default_rng(0)
    found = [("A0", item, DAY * day) for item, day in (("B001", 1), ("B002", 3), ("B003", 3))]
    found += [("A0", "B004", 3 * DAY), ("A0", "B005", 9 * DAY)]
    for user in range(1, 40):
        days = np.sort(random.integers(0, 200, 8))
        items = random.choice(ITEMS, 8, replace=False)
        found += [(f"A{user}", str(item), int(day) * DAY) for item, day in zip(items, days)]
    return found


def folder(path, reviews, form=2014):
    path.mkdir()
    if form == 2023:
        name, meta_name = "Books.jsonl.gz", "meta_Books.jsonl"
        lines = [
            {"user_id": u, "parent_asin": i, "asin": "X" + i, "timestamp": 1000 * t, "rating": 5.0}
            for u, i, t in reviews
        ]
        meta = [json.dumps({"parent_asin": i, "categories": ["All", category(i)]}) for i in ITEMS]
    else:
        name, meta_name = "reviews_Books_5.json.gz", "meta_Books.json"
        lines = [
            {"reviewerID": u, "asin": i, "reviewText": "a \"b\" 'c'", "unixReviewTime": t}
            for u, i, t in reviews
        ]
        # As Python prints it, not JSON.
        meta = [
            repr({"asin": i, "title": "it's", "categories": [["A"], ["Old", category(i)]]})
            for i in ITEMS
        ]
    text = "\n".join(map(json.dumps, lines)) + "\n"
    (path / name).write_bytes(gzip.compress(text.encode()))
    (path / meta_name).write_text("\n".join([*meta, repr({"asin": "Z", "price": 2.0})]) + "\n")
    return path


@pytest.fixture(scope="module")
def place(reviews, tmp_path_factory):
    return folder(tmp_path_factory.mktemp("amazon") / "a", reviews)


def size(data, name):
    return next(f.vocabulary_size for f in data.features if f.name == name)


@pytest.mark.parametrize("how", ["time", "last"])
def test_rows_histories_and_negatives(how, place, reviews):
    data = amazon(place, split=how, max_length=6)
    parts = (data.train, data.validation, data.test)
    ordered = sorted({t for _, _, t in reviews}, reverse=True)
    bound = sorted(t for _, _, t in reviews)[len(reviews) * 8 // 10]
    # Of one day, in order of first appearance in the file.
    first = [item for _, item, _ in reviews]
    by_user = {}
    for user, item, time in sorted(reviews, key=lambda r: (r[0], r[2], first.index(r[1]))):
        by_user.setdefault(user, []).append((time, item))
    if how == "time":
        known = [(u, t, i) for u, rows in by_user.items() for t, i in rows if t < bound]
        assert ordered[0] > bound
    else:
        known = [(u, t, i) for u, rows in by_user.items() for t, i in rows[:-2]]
    counts = {}
    for _, _, item in known:
        counts[item] = counts.get(item, 0) + 1
    name = ["", *sorted(counts, key=lambda i: (-counts[i], i))]
    assert size(data, "item") == len(name) - 1
    # What each user's positives must be, and what lay before them.
    want = {}
    for rows in by_user.values():
        for time, item in rows:
            before = [i for t, i in rows if t < time and i in counts]
            if before and item in counts:
                want.setdefault((item, tuple(before[-6:])), []).append(set(before))
    seen = 0
    for part in parts:
        ids, history = part.inputs["item"], part.inputs["hist_item"]
        negative, labels = part.inputs["neg_hist_item"], part.labels[:, 0]
        assert labels.tolist() == [1, 0] * (len(part) // 2)
        for row in range(0, len(part), 2):
            before = tuple(name[i] for i in history[row] if i)
            possible = want[name[ids[row]], before]
            assert (history[row] == history[row + 1]).all()
            assert part.groups[row] == part.groups[row + 1]
            drawn = {name[ids[row + 1]]}
            drawn |= {name[i] for i in negative[row] if i}
            assert any(not drawn & known_then for known_then in possible)
            assert ids[row + 1] not in (0, ids[row])
            assert ((negative[row] > 0) == (history[row] > 0)).all()
            seen += 1
    assert seen == sum(map(len, want.values()))
    # A category goes with its item everywhere.
    pairs = {}
    for part in parts:
        for of, to in (
            ("item", "category"),
            ("hist_item", "hist_category"),
            ("neg_hist_item", "neg_hist_category"),
        ):
            for i, c in zip(part.inputs[of].ravel(), part.inputs[to].ravel()):
                assert pairs.setdefault(int(i), int(c)) == c
    assert pairs[0] == 0
    kinds = {(category(name[i]), c) for i, c in pairs.items() if i}
    assert len(kinds) == len({c for _, c in kinds}) == 4


def test_times_part_the_splits(place, reviews):
    data = amazon(place)
    rows = [len(s) // 2 for s in (data.train, data.validation, data.test)]
    times = sorted(t for _, _, t in reviews)
    bounds = [times[len(times) * share // 10] for share in (8, 9)]
    late = sum(t >= bounds[1] for t in times)
    assert 0 < rows[2] <= late
    assert rows[0] < sum(t < bounds[0] for t in times)
    last = amazon(place, split="last")
    assert len(last.test) // 2 <= 40
    assert len(np.unique(last.test.groups)) == len(last.test) // 2


def test_the_day_itself_is_not_before(tmp_path, reviews):
    data = amazon(folder(tmp_path / "a", reviews), split="last", max_length=4)
    parts = (data.train, data.validation, data.test)
    mine = [
        (p.inputs["hist_item"][i], p.inputs["sess_item"][i])
        for p in parts
        for i in np.flatnonzero((p.groups == 0) & (p.labels[:, 0] == 1))
    ]
    # Of the first user: one before each of three on day 3, four before the last.
    assert sorted((h > 0).sum() for h, _ in mine) == [1, 1, 1, 4]
    sessions = max(mine, key=lambda pair: (pair[0] > 0).sum())[1]
    assert (sessions > 0).sum(axis=1).tolist() == [1, 3, 0, 0, 0]


@pytest.mark.parametrize("form", [2023])
def test_all_forms_are_one(form, place, reviews, tmp_path):
    want = amazon(place)
    got = amazon(folder(tmp_path / "a", [*reviews, reviews[4]], form))
    for name, values in want.train.inputs.items():
        np.testing.assert_array_equal(got.train.inputs[name], values)
    assert got.features == want.features


def test_ranking_has_the_same_rows_without_histories(place):
    both = [amazon(place, task=task, seed=3) for task in ("ranking", "sequence")]
    assert [f.name for f in both[0].features] == ["user", "item", "category"]
    for name in ("user", "item", "category"):
        one, other = (data.test.inputs[name].tolist() for data in both)
        assert one == other
    again = amazon(place, task="ranking", seed=4)
    assert again.train.inputs["item"][::2].tolist() == both[0].train.inputs["item"][::2].tolist()
    assert again.train.inputs["item"].tolist() != both[0].train.inputs["item"].tolist()


def test_no_two_seeds_draw_the_same_for_any_part(place, monkeypatch):
    module, seeds = importlib.import_module("recops.data.amazon"), []

    def drawn(*args, seed, **options):
        seeds.append(seed)
        return sample_negatives(*args, seed=seed, **options)

    monkeypatch.setattr(module, "_ROWS", 20)
    monkeypatch.setattr(module, "sample_negatives", drawn)
    for seed in range(4):
        amazon(place, seed=seed)
    assert len(seeds) > 40
    assert len({np.random.default_rng(seed).random() for seed in seeds}) == len(seeds)


def test_what_does_not_fit_is_said(reviews, tmp_path, capsys):
    place = folder(tmp_path / "a", reviews)
    file = place / "reviews_Books_5.json.gz"
    lines = gzip.decompress(file.read_bytes()).decode().splitlines()
    lines[2] = lines[2][:-5]
    file.write_text("\n".join(lines))
    amazon(place)
    assert (
        f"1 of {len(lines)} lines left out: line 3: expected a JSON obj" in capsys.readouterr().err
    )
    lines[7] = json.dumps({"reviewerID": "A1", "unixReviewTime": 5})
    lines[8] = json.dumps({"reviewerID": "A1", "asin": "B001", "unixReviewTime": "May"})
    lines[9] = "[]"
    file.write_text("\n".join(lines))
    with pytest.raises(
        DataError, match=r"line 8: expected a reviewerID .* line 9: expected a numb"
    ):
        amazon(place)


@pytest.mark.parametrize("time", ["NaN", "1e999", "-1e30", "true", "9" * 400])
@pytest.mark.parametrize("name", ["unixReviewTime", "timestamp"])
def test_a_time_that_is_none_costs_its_line_alone(name, time, reviews, tmp_path, capsys):
    place = folder(tmp_path / "a", reviews)
    file = place / "reviews_Books_5.json.gz"
    lines = gzip.decompress(file.read_bytes()).decode().splitlines()
    lines[3] = f'{{"reviewerID": "A1", "asin": "B001", "{name}": {time}}}'
    file.write_text("\n".join(lines))
    amazon(place)
    assert "line 4: expected a number as unixReviewTime" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["[" * 100_000, "{[1]: 2}"])
def test_a_line_that_no_parser_reads_costs_itself_alone(line, reviews, tmp_path, capsys):
    place = folder(tmp_path / "a", reviews)
    file = place / "reviews_Books_5.json.gz"
    lines = gzip.decompress(file.read_bytes()).decode().splitlines()
    file.write_text("\n".join([*lines[:3], line, *lines[3:]]))
    amazon(place)
    assert "line 4: expected a JSON object" in capsys.readouterr().err


def test_mistakes(reviews, place, tmp_path):
    with pytest.raises(DataError, match=r"amazon: .*nope: no such file or folder"):
        amazon(tmp_path / "nope")
    with pytest.raises(DataError, match=r"should hold one file of reviews and one meta\*.json"):
        amazon(tmp_path)
    with pytest.raises(DataError, match="is no folder; give the file of the meta data too"):
        amazon(place / "reviews_Books_5.json.gz")
    both = amazon(place / "reviews_Books_5.json.gz", place / "meta_Books.json")
    assert len(both.train) == len(amazon(place).train)
    (tmp_path / "empty").write_text("")
    with pytest.raises(DataError, match="empty is empty"):
        amazon(place, tmp_path / "empty")
    with pytest.raises(DataError, match=r"the \w+ split has no review of a known"):
        amazon(folder(tmp_path / "few", reviews[:2]))
    with pytest.raises(ValueError, match="no task 'retrieval', only 'sequence', 'ranking'"):
        amazon(place, task="retrieval")
    with pytest.raises(ValueError, match="split must be one of 'time', 'last', got 'random'"):
        amazon(place, split="random")
    with pytest.raises(ValueError, match="max_length must be 1 or more, got 0"):
        amazon(place, max_length=0)
