"""The reader of libFM and libFFM text: fields by place, by number and by range of the index."""

import numpy as np
import pytest

from recops import training
from recops.data import DataError, libfm
from recops.features import DenseFeature, SequenceFeature, SparseFeature

# Frappe's form: each line has the same fields in the same places.
FRAPPE = ["-1 451:1 4149:1 5041:1", "1 451:1 4150:1 5041:1", "-1 452:1 4149:1 5042:1"]


def write(path, lines, count=None):
    lines = [lines[i % len(lines)] for i in range(count or len(lines))]
    path.write_text("\n".join(lines) + "\n")
    return path


def whole(data, name):
    return np.concatenate([s.inputs[name] for s in (data.train, data.validation, data.test)])


def parts(tmp_path, train, rest=None):
    for part in ("train", "validation", "test"):
        write(tmp_path / f"x.{part}.libfm", train if part == "train" else rest or train)
    return tmp_path


def test_fields_by_place(tmp_path):
    data = libfm(parts(tmp_path, FRAPPE, [*FRAPPE, "1 7:1 4150:1 5041:1"]), ["user", "item", "tag"])
    assert data.features == [
        SparseFeature("user", 2),
        SparseFeature("item", 2),
        SparseFeature("tag", 2),
    ]
    assert data.train.labels[:, 0].tolist() == [0, 1, 0]
    assert data.train.inputs["user"].tolist() == [1, 1, 2]
    assert data.train.inputs["item"].tolist() == [1, 2, 1]
    assert data.test.inputs["user"].tolist() == [1, 1, 2, 0]
    assert data.test.groups.tolist() == [0, 0, 1, 2]
    unnamed = libfm(tmp_path, min_count=2)
    assert [f.name for f in unnamed.features] == ["field_0", "field_1", "field_2"]
    assert unnamed.train.inputs["field_0"].tolist() == [1, 1, 0]
    assert unnamed.test.groups.tolist() == [0, 0, 0, 0]


def test_fields_by_number(tmp_path):
    lines = ["1 0:5:1 1:9:1 4:2:0.25", "0 1:9:1 0:6:1 # a remark", "", "# nothing", "0 4:2:3 0:5:1"]
    data = libfm(parts(tmp_path, lines), {"user": (0, 0), "word": (1, 1), "age": (4, 4)})
    assert data.features == [
        SparseFeature("user", 2),
        SparseFeature("word", 1),
        DenseFeature("age"),
    ]
    assert data.train.inputs["user"].tolist() == [1, 2, 1]
    assert data.train.inputs["word"].tolist() == [1, 1, 0]
    assert data.train.inputs["age"].tolist() == [0.25, 0, 3]
    named = libfm(tmp_path, ["user", "word", "age"])
    assert named.features == data.features
    assert [f.name for f in libfm(tmp_path).features] == ["field_0", "field_1", "field_4"]


def test_fields_by_range_and_several_of_one(tmp_path):
    lines = ["4 1:1 10:1 12:1", "2 2:1 11:1", "5 1:1 10:1 11:1 12:1", "1 2:1"]
    data = libfm(
        parts(tmp_path, lines), {"item": (1, 9), "genres": (10, 20)}, threshold=3, group="item"
    )
    assert data.features == [
        SparseFeature("item", 2),
        SequenceFeature("genres", 3, max_length=3, combiner="sum"),
    ]
    assert data.train.labels[:, 0].tolist() == [1, 0, 1, 0]
    # By falling count, then by index: 10, 11, 12.
    assert data.train.inputs["genres"].tolist() == [[1, 3, 0], [2, 0, 0], [1, 2, 3], [0, 0, 0]]
    assert data.train.groups.tolist() == [0, 1, 0, 1]


def test_one_file_is_split_at_random(tmp_path):
    path = write(tmp_path / "all.txt", FRAPPE, 90)
    made = [libfm(path, seed=seed) for seed in (0, 0, 1)]
    assert [len(s) for s in (made[0].train, made[0].validation, made[0].test)] == [72, 9, 9]
    ids = [data.train.inputs["field_0"].tolist() for data in made]
    assert ids[0] == ids[1] != ids[2]
    assert np.bincount(whole(made[0], "field_0")).tolist() == [0, 60, 30]


def test_lines_that_do_not_fit(tmp_path, capsys):
    lines = [FRAPPE[i % 3] for i in range(300)]
    lines[4], lines[5], lines[9] = "1 451:1", "1 451 4149:1 5041:1", "x 1:1 2:1 3:1"
    libfm(write(tmp_path / "a", lines))
    said = capsys.readouterr().err
    assert "3 of 300 lines left out: line 5: expected 3 entries, got 1; line 6: expected" in said
    assert "expected index:value, got '451'; line 10: could not convert" in said
    with pytest.raises(DataError, match="3 of 30 lines do not fit"):
        libfm(write(tmp_path / "a", lines[:30]))


@pytest.mark.parametrize("bad", ["1 100:1", "1 garbage", "1", "1 0:8:1 1:9:1"])
@pytest.mark.parametrize("form", ["libFM", "libFFM"])
def test_the_first_line_may_be_the_bad_one(bad, form, tmp_path, capsys):
    lines = [FRAPPE[i % 3] for i in range(300)]
    if form == "libFFM":
        lines = [line.replace(" ", " 0:", 1).replace(" 4", " 1:4") for line in lines]
        lines = [line.replace(" 5", " 2:5") for line in lines]
        bad = bad.replace("0:8:1 1:9:1", "8:1 9:1")
    data = libfm(write(tmp_path / "a", [bad, *lines]))
    assert sum(map(len, (data.train, data.validation, data.test))) == 300
    assert "1 of 301 lines left out: line 1: " in capsys.readouterr().err
    data = libfm(write(tmp_path / "a", [*["# a remark"] * 120, *lines]))
    assert sum(map(len, (data.train, data.validation, data.test))) == 300


@pytest.mark.parametrize(
    ("lines", "fields", "error", "reason"),
    [
        ([""], None, DataError, "is empty"),
        (["# none"], None, DataError, "holds no line of data"),
        (["1 1:1", "1 2:1"], None, DataError, "all train labels are above 0; choose a threshold"),
        (["1 1:1", "0 2:0.5"], None, DataError, "several indices .* values other than 1 "),
        (["1 1:1", "0 5:1"], {"a": (1, 2)}, DataError, "line 2: 5 belongs to none of the fields"),
        (["1 1:1", "0 5:inf"], None, DataError, "line 2: expected finite values"),
        (["1 1:1", "0"], None, DataError, "line 2: expected 1 entries, got 0"),
        (["1 1:1:1", "0 2:1:1"], ["a"], ValueError, "1 names, but the lines have 2 fields"),
        (FRAPPE, ["a", "a", "b"], ValueError, "fields names one twice"),
        (FRAPPE, {"a": (0, 9), "b": (8, 10)}, ValueError, r"'a' \(0, 9\) and 'b' \(8, 10\) overl"),
        (FRAPPE, "abc", ValueError, "fields must be names or a mapping, got 'abc'"),
    ],
)
def test_mistakes(lines, fields, error, reason, tmp_path):
    with pytest.raises(error, match=f"libfm: .*{reason}"):
        libfm(parts(tmp_path, lines), fields)


def test_too_few_rows_for_three_splits(tmp_path):
    with pytest.raises(DataError, match=r"libfm: .*/a: of 9 rows no tenth .* give 10 or"):
        libfm(write(tmp_path / "a", FRAPPE, 9))


def test_a_folder_that_lacks_a_part(tmp_path):
    parts(tmp_path, FRAPPE)
    (tmp_path / "x.test.libfm").unlink()
    with pytest.raises(DataError, match="should hold one test file, found none"):
        libfm(tmp_path)


def test_a_data_set_by_reader_and_path(tmp_path):
    path = write(tmp_path / "all.txt", FRAPPE, 90)
    want = libfm(path)
    got = training.dataset(f"libfm:{path}", "ranking")
    assert got.features == want.features
    for spec in ("libfm", "libfm:", "nope:x", "movielens"):
        with pytest.raises(ValueError, match=r"data must be one of movielens-100k, adult:PATH,"):
            training.dataset(spec, "ranking")
    assert set(training.READERS) == {"adult", "amazon", "criteo", "libfm", "stream"}
