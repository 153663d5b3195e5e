"""`encode`: shards with the rows and ids of the readers in memory, whole after a kill."""

from pathlib import Path

import numpy as np
import pytest

from recops.cli import main
from recops.data import DataError, Encoder, adult, amazon, criteo, encode, libfm, stream
from recops.data.tables import parts
from tests.data import generated, test_amazon
from tests.data.test_criteo_adult import FIRST, ads, census
from tests.data.test_libfm import write

pytest.importorskip("pyarrow")
ROWS = 3000


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return generated.write(tmp_path_factory.mktemp("source") / "train.txt", ROWS, values=200)


def encoded(source, out, **options):
    return encode(source, out, **{"verbose": 0, "shard_rows": 1000, "memory": 16, **options})


def files(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name not in (".lock",)
    }


def whole(data, name):
    return np.concatenate([s.inputs[name] for s in (data.train, data.validation, data.test)])


def by_text(data, order):
    """All inputs and labels of all splits, sorted, so that the split is of no account."""
    columns = [whole(data, f.name).reshape(sum(map(len, splits(data))), -1) for f in data.features]
    rows = np.concatenate(columns, axis=1)
    return rows[np.lexsort(rows.T)] if order else rows


def splits(data):
    return data.train, data.validation, data.test


def test_criteo_in_time_is_what_the_reader_has(source, tmp_path):
    done = encoded(f"criteo:{source}", tmp_path / "out", split="time", min_count=3)
    want = criteo(source, split="time", min_count=3)
    got = stream(tmp_path / "out")
    assert got.features == want.features
    assert dict(done.rows) == {"train": 2400, "validation": 300, "test": 300}
    for some, other in zip(splits(got), splits(want)):
        np.testing.assert_array_equal(some.labels, other.labels)
        for feature in want.features:
            np.testing.assert_array_equal(some.inputs[feature.name], other.inputs[feature.name])
    # A second pass that saw all values at once would pass too: the encoder is that of train.
    kept = Encoder.load(tmp_path / "out" / "encoder.json")
    assert kept.vocabulary("C1")
    assert kept.counts("C1").sum() == 2400


def test_values_that_do_not_fit_in_memory_are_counted_alike(source, tmp_path, monkeypatch):
    from recops.data import counting, learning

    encoded(f"criteo:{source}", tmp_path / "a", min_count=2)
    whole, spilled = counting.Counts._spill, []
    monkeypatch.setattr(counting.Counts, "_spill", lambda self: spilled.append(1) or whole(self))
    monkeypatch.setattr(learning, "ENTRY_BYTES", 4 << 20)
    encoded(f"criteo:{source}", tmp_path / "b", min_count=2, memory=17)
    a, b = ((tmp_path / name / "encoder.json").read_bytes() for name in "ab")
    assert a == b
    assert len(spilled) > 1
    assert not (tmp_path / "b" / ".counts").exists()


def test_a_random_split_is_8_1_1_and_one_of_the_row(source, tmp_path):
    done = encoded(f"criteo:{source}", tmp_path / "out")
    assert abs(done.rows["train"] - 0.8 * ROWS) < 80
    assert sum(done.rows.values()) == ROWS
    numbers = np.arange(1, 100_001)
    drawn = parts(numbers, (8, 1, 1), 3, 0, None)
    pieces = [parts(piece, (8, 1, 1), 3, 0, None) for piece in np.array_split(numbers, 13)]
    assert np.concatenate(pieces).tolist() == drawn.tolist()
    assert (parts(numbers, (8, 1, 1), 4, 0, None) != drawn).any()


def test_hashed_ids_take_one_pass(source, tmp_path):
    encoded(f"criteo:{source}", tmp_path / "out", hash_buckets=97)
    data = stream(tmp_path / "out")
    assert {f.vocabulary_size for f in data.features if f.name.startswith("C")} == {97}
    encoder = Encoder.load(tmp_path / "out" / "encoder.json")
    cells = [line.split("\t")[14] for line in source.read_text().splitlines()]
    part = parts(np.arange(1, ROWS + 1), (8, 1, 1), 0, 0, None)
    want = encoder.transform(dict.fromkeys(encoder.columns, cells))["C1"][part == 0]
    np.testing.assert_array_equal(data.train.inputs["C1"], want)


@pytest.mark.parametrize("hash_buckets", [None, 50])
def test_lines_that_do_not_fit_are_counted(hash_buckets, tmp_path, capsys):
    path = ads(tmp_path / "train.txt", 400, L7="1\t2", L200="x" + FIRST)
    done = encoded(f"criteo:{path}", tmp_path / "out", hash_buckets=hash_buckets)
    assert done.left_out == 2
    assert sum(done.rows.values()) == 398
    assert "2 of 400 lines left out: line 8: expected 40 columns" in capsys.readouterr().err
    worse = ads(tmp_path / "worse.txt", 100, L7="1\t2", L8="1")
    with pytest.raises(DataError, match="2 of 100 lines do not fit"):
        encoded(f"criteo:{worse}", tmp_path / "worse", hash_buckets=hash_buckets)


def test_adult_is_what_the_reader_has(tmp_path):
    place = census(tmp_path)
    encoded(f"adult:{place}", tmp_path / "out")
    got, want = stream(tmp_path / "out"), adult(place)
    assert [f.name for f in got.features] == [f.name for f in want.features]
    np.testing.assert_array_equal(got.test.labels, want.test.labels)
    assert len(got.train) + len(got.validation) == len(want.train) + len(want.validation)
    assert 0 in whole(got, "workclass")


def test_libfm_has_sparse_lists_and_numbers(tmp_path):
    lines = ["1 1:1:1 2:5:1 3:9:0.5", "0 1:2:1 2:5:1 2:6:1", "1 1:1:1 3:9:2"]
    for part in ("train", "validation", "test"):
        write(tmp_path / f"x.{part}.libfm", lines, 12)
    encoded(f"libfm:{tmp_path}", tmp_path / "out")
    got, want = stream(tmp_path / "out"), libfm(tmp_path)
    assert got.features == want.features
    for some, other in zip(splits(got), splits(want)):
        np.testing.assert_array_equal(some.labels, other.labels)
        for feature in want.features:
            np.testing.assert_array_equal(some.inputs[feature.name], other.inputs[feature.name])


@pytest.mark.parametrize("task", ["sequence", "ranking"])
def test_amazon_is_what_the_reader_has(task, tmp_path, monkeypatch):
    import importlib

    module = importlib.import_module("recops.data.amazon")
    monkeypatch.setattr(module, "_ROWS", 64)
    random = np.random.default_rng(0)
    reviews = [
        (f"A{user}", str(item), int(day) * test_amazon.DAY)
        for user in range(40)
        for item, day in zip(
            random.choice(test_amazon.ITEMS, 8, replace=False), np.sort(random.integers(0, 200, 8))
        )
    ]
    place = test_amazon.folder(tmp_path / "in", reviews)
    encoded(f"amazon:{place}", tmp_path / "out", task=task, shard_rows=100)
    got, want = stream(tmp_path / "out", task), amazon(place, task=task)
    assert got.features == want.features
    assert len(got.train.shards) > 1
    for some, other in zip(splits(got), splits(want)):
        np.testing.assert_array_equal(some.labels, other.labels)
        np.testing.assert_array_equal(some.groups, other.groups)
        for feature in want.features:
            np.testing.assert_array_equal(some.inputs[feature.name], other.inputs[feature.name])
    if task == "sequence":
        names = [f.name for f in stream(tmp_path / "out", "ranking").features]
        assert names == ["user", "item", "category"]
    else:
        with pytest.raises(ValueError, match="no task 'sequence'"):
            stream(tmp_path / "out", "sequence")


SPEC = "label=click group=user categories=user,city numbers=age lists=tags:2"


def table(rows=200):
    import pyarrow as pa

    random = np.random.default_rng(0)
    cities = [None if i % 9 == 0 else ["Rome", "Oslo"][i % 2] for i in range(rows)]
    return pa.table(
        {
            "click": random.integers(0, 2, rows),
            "user": random.integers(0, 7, rows),
            "city": cities,
            "age": pa.array([None if i % 5 == 0 else float(i) for i in range(rows)]),
            "tags": [["a", "b", "c"][: i % 4] for i in range(rows)],
            "other": ["x"] * rows,
        }
    )


def test_parquet_by_a_spec(tmp_path):
    import pyarrow.parquet as pq

    made = table()
    pq.write_table(made, tmp_path / "clicks.parquet")
    options = {"spec": SPEC, "split": "time", "numeric": "plain"}
    encoded(f"parquet:{tmp_path / 'clicks.parquet'}", tmp_path / "out", **options)
    data = stream(tmp_path / "out")
    assert [f.name for f in data.features] == ["user", "city", "tags", "age"]
    assert whole(data, "tags").shape == (200, 2)
    assert whole(data, "tags")[:4].tolist() == [[0, 0], [1, 0], [1, 2], [1, 2]]
    assert (whole(data, "city") == 0).tolist() == [c is None for c in made["city"].to_pylist()]
    assert whole(data, "age")[:6].tolist() == [0, 1, 2, 3, 4, 0]
    users = np.array(made["user"])[:160]
    assert len(set(zip(users.tolist(), data.train.groups.tolist()))) == len(set(users.tolist()))


def test_csv_is_read_as_parquet_is(tmp_path):
    import pyarrow.parquet as pq

    made = table()
    pq.write_table(made, tmp_path / "clicks.parquet")
    lines = ["click,user,city,age,tags,other"]
    for row in made.to_pylist():
        row["tags"] = "|".join(row["tags"])
        lines.append(",".join("" if cell is None else str(cell) for cell in row.values()))
    (tmp_path / "clicks.csv").write_text("\n".join(lines) + "\n")
    for kind in ("parquet", "csv"):
        place = tmp_path / f"clicks.{kind}"
        encoded(f"{kind}:{place}", tmp_path / kind, spec=SPEC, numeric="plain")
    a, b = stream(tmp_path / "parquet"), stream(tmp_path / "csv")
    for name in ("user", "age", "tags"):
        np.testing.assert_array_equal(whole(a, name), whole(b, name))
    np.testing.assert_array_equal(a.train.labels, b.train.labels)


def test_rows_of_csv_that_do_not_fit(tmp_path, capsys):
    lines = ["c,x", *("1,a" if i % 2 else "0,b" for i in range(500))]
    lines[10], lines[300] = "1,a,z", "maybe,a"
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    place = f"csv:{tmp_path / 'a.csv'}"
    done = encoded(place, tmp_path / "out", spec="label=c categories=x")
    assert done.left_out == 2
    assert sum(done.rows.values()) == 498
    assert "2 of 500 rows left out" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"the column 'y' is missing; there are 'c', 'x'"):
        encoded(place, tmp_path / "no", spec="label=c categories=y")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("label=c", "one category"),
        ("categories=x", "one label"),
        ("label=c categories=x,x", "name one twice"),
        ("label=c lists=x", "a list is NAME:LENGTH, got 'x'"),
        ("label=c what=x", "got 'what=x'"),
    ],
)
def test_a_spec_that_says_nothing(columns, message, tmp_path):
    (tmp_path / "a.csv").write_text("c,x\n1,a\n")
    with pytest.raises(ValueError, match=message):
        encoded(f"csv:{tmp_path / 'a.csv'}", tmp_path / "out", spec=columns)


def test_a_progress_bar_for_each_pass(source, tmp_path, capsys):
    for hash_buckets, passes in ((None, 2), (100, 1)):
        options = {"hash_buckets": hash_buckets, "verbose": 1}
        encoded(f"criteo:{source}", tmp_path / f"{passes}", **options)
        said = capsys.readouterr().out
        assert said.count("1/1") == passes


def test_two_at_once_in_a_folder(source, tmp_path):
    from filelock import FileLock

    (tmp_path / "out").mkdir()
    with (
        FileLock(tmp_path / "out" / ".lock"),
        pytest.raises(ValueError, match="is being written by another process"),
    ):
        encoded(f"criteo:{source}", tmp_path / "out")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("encode criteo out", "source must be READER:PATH"),
        ("encode other:x out", "source must be READER:PATH"),
        ("encode criteo:nope.txt out", "nope.txt: no such file"),
        ("encode csv:x out", "which need them"),
        ("encode criteo:x out --columns label=x", "not for criteo"),
        ("encode amazon:nope out", "nope: no such file or folder"),
        ("encode amazon:x out --hash-buckets 5", "takes no hash_buckets"),
        ("encode criteo:train.txt out --split last", "split must be one of 'random', 'time'"),
        ("encode criteo:train.txt out --numeric odd", "numeric must be one of"),
        ("encode criteo:train.txt out --task sequence", "no task 'sequence'"),
        ("encode criteo:train.txt out --hash-buckets 9 --min-count 3", "takes no min_count"),
        ("encode criteo:few.txt out", "split of criteo:.*few.txt has no rows"),
    ],
)
def test_mistakes_are_one_line(line, message, tmp_path, monkeypatch, capsys):
    import re

    monkeypatch.chdir(tmp_path)
    ads(Path("train.txt"))
    ads(Path("few.txt"), 2)
    assert main(line.split()) == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    assert re.search(message, said)
    assert "few" in line or not Path("out").exists()


def test_the_command_says_what_it_wrote(source, tmp_path, capsys):
    out = tmp_path / "out"
    line = ["encode", f"criteo:{source}", str(out), "--min-count", "3", "--shard-rows", "1500"]
    assert main(line) == 0
    said = capsys.readouterr().out
    assert "rows in 2, validation" in said
    assert f"written to {out}" in said
