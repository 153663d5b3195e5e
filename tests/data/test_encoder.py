"""Encoder: ids from 1 by falling count, 0 for what train lacks, whatever form the columns have."""

import json
import time
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from recops.data import DataError, Encoder, embedding_dim
from recops.data.factors import Factorizer, Factors


def plain(train, values, min_count=1):
    """The rule, value by value."""
    counts = Counter(train)
    known = sorted((v for v in counts if counts[v] >= min_count), key=lambda v: (-counts[v], v))
    return [known.index(v) + 1 if v in known else 0 for v in values]


@pytest.mark.parametrize("min_count", [1, 3])
@pytest.mark.parametrize("kind", ["text", "whole", "real"])
def test_ids_are_those_of_the_rule(kind, min_count):
    random = np.random.default_rng(0)
    make = {"text": "v{}".format, "whole": int, "real": lambda n: n / 4}[kind]
    train = [make(int(n)) for n in random.geometric(0.2, 200)]
    test = [make(int(n)) for n in random.integers(1, 40, 100)]
    encoder = Encoder(min_count=min_count).fit({"x": train})
    assert encoder.transform({"x": train})["x"].tolist() == plain(train, train, min_count)
    got = encoder.transform({"x": test})["x"]
    assert got.tolist() == plain(train, test, min_count)
    assert got.dtype == np.int32
    assert 0 in got
    assert encoder.features()[0].vocabulary_size == max(plain(train, train, min_count))
    counts = Counter(train)
    known = encoder.vocabulary("x")
    assert encoder.counts("x")[1:].tolist() == [counts[value] for value in known]
    assert encoder.counts("x").sum() == len(train)


def test_the_order_of_the_rows_is_of_no_account():
    train = np.random.default_rng(1).integers(0, 30, 300)
    one, other = Encoder().fit({"x": train}), Encoder().fit({"x": train[::-1]})
    assert one.vocabulary("x") == other.vocabulary("x")


FORMS = {
    "list": ["b", "a", "b"],
    "object": np.array(["b", "a", "b"], object),
    "unicode": np.array(["b", "a", "b"]),
    "bytes": np.array([b"b", b"a", b"b"]),
    "string": pd.Series(["b", "a", "b"], dtype="string"),
    "categorical": pd.Series(["b", "a", "b"], dtype="category"),
    "index": pd.Series(["b", "a", "b"], index=[7, 7, 9]),
}


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_of_text_are_one(form):
    assert Encoder().fit_transform({"x": FORMS[form]})["x"].tolist() == [1, 2, 1]
    assert Encoder().fit({"x": ["a", "a", "b"]}).transform({"x": FORMS[form]})["x"].tolist() == [
        2, 1, 2,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [
        [7, None, 5, 7],
        np.array([7.0, np.nan, 5.0, 7.0]),
        np.array([7, None, 5, 7], object),
        pd.Series([7, None, 5, 7], dtype="Int64"),
        pd.Series([7, None, 5, 7]),
    ],
    ids=["list", "float", "object", "Int64", "Series"],
)
def test_missing_numbers_are_unknown_and_floats_equal_integers(values):
    encoder = Encoder().fit({"x": np.array([5, 7, 7, 9])})
    assert encoder.transform({"x": values})["x"].tolist() == [1, 0, 2, 1]
    again = Encoder().fit({"x": values})
    assert again.vocabulary("x") == [7, 5]
    assert again.counts("x").tolist() == [1, 2, 1]


@pytest.mark.parametrize(
    "values",
    [["a", None, "b"], ["a", np.nan, "b"], pd.Series(["a", pd.NA, "b"], dtype="string")],
    ids=["None", "NaN", "NA"],
)
def test_missing_text_is_unknown(values):
    assert Encoder().fit_transform({"x": values})["x"].tolist() == [1, 0, 2]


def test_frames_arrays_and_chosen_columns():
    frame = pd.DataFrame({"a": [1, 1, 2], "b": ["x", "y", "y"], "c": [0.5, 0.5, 1.0]})
    assert {n: v.tolist() for n, v in Encoder(["b", "a"]).fit_transform(frame).items()} == {
        "b": [2, 1, 1],
        "a": [1, 1, 2],
    }
    assert Encoder().fit_transform(np.array([[3, 4], [3, 5]])).tolist() == [[1, 1], [1, 2]]
    assert Encoder().fit_transform(np.array([8, 8, 3])).tolist() == [1, 1, 2]


def test_a_column_without_frequent_values_is_all_unknown():
    encoder = Encoder(min_count=2).fit({"x": [1, 2, 3]})
    assert encoder.transform({"x": [1, 2, 9]})["x"].tolist() == [0, 0, 0]
    assert encoder.features()[0].vocabulary_size == 1
    assert encoder.transform({"x": np.zeros(0, int)})["x"].shape == (0,)


def test_saved_and_loaded(tmp_path):
    frame = pd.DataFrame({"a": [2**53 + 1, 2**53, 2**53], "b": ["é", "y", "y"], "c": [0.1, 0.1, 3]})
    encoder = Encoder(min_count=1).fit(frame)
    encoder.save(tmp_path / "ids.json")
    loaded = Encoder.load(tmp_path / "ids.json")
    for name, ids in encoder.transform(frame).items():
        assert loaded.transform(frame)[name].tolist() == ids.tolist()
        assert loaded.counts(name).tolist() == encoder.counts(name).tolist()
    assert loaded.features(4) == encoder.features(4)
    assert loaded.min_count == 1
    assert [p.name for p in tmp_path.iterdir()] == ["ids.json"]


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(DataError, match=r"Encoder.load: .*nope: no such file"):
        Encoder.load(tmp_path / "nope")
    path = tmp_path / "ids.json"
    Encoder().fit({"x": ["a", "b"]}).save(path)
    whole = path.read_text()
    other = json.loads(whole)
    other["columns"]["x"]["counts"].pop()
    lists = whole.replace('"values": [', '"values": [[], ').replace('"counts": [', '"counts": [0, ')
    for broken in (
        lists,
        whole[:-20],
        "[]",
        "{}",
        json.dumps(other),
        whole.replace("Encoder 1", "E 9"),
    ):
        path.write_text(broken)
        with pytest.raises(DataError, match=r"no file that Encoder.save wrote, or is cut off"):
            Encoder.load(path)


@pytest.mark.parametrize(
    ("column", "ids"),
    [
        (pd.Series([2**53, 2**53 + 1, None], dtype="Int64"), [1, 2, 0]),
        (pd.Series([2**63 + 1, 2**63, None], dtype="UInt64"), [2, 1, 0]),
        ([2**63 + 1, 2**63], [2, 1]),
        ([2**53, None, 2**53 + 1], [1, 0, 2]),
        (pd.Series([2**53, None, 2**53 + 1], dtype="category"), [1, 0, 2]),
    ],
)
def test_large_integers_stay_apart(column, ids):
    encoder = Encoder()
    assert encoder.fit_transform({"a": column})["a"].tolist() == ids
    assert all(isinstance(value, int) for value in encoder.vocabulary("a"))


def test_a_list_and_a_series_are_one_column():
    want = Encoder().fit_transform(np.array(["a", "b", "a"])).tolist()
    for form in (["a", "b", "a"], ("a", "b", "a"), pd.Series(["a", "b", "a"])):
        assert Encoder().fit_transform(form).tolist() == want
    assert Encoder().fit_transform([pd.NA, "a", float("nan")]).tolist() == [0, 1, 0]


def test_infinite_numbers_are_values(tmp_path):
    encoder = Encoder().fit({"a": [1.0, np.inf, np.inf, -np.inf, np.nan]})
    encoder.save(tmp_path / "e")
    again = Encoder.load(tmp_path / "e")
    assert again.vocabulary("a") == encoder.vocabulary("a") == [np.inf, -np.inf, 1.0]


RAGGED = np.array([np.zeros(2), np.zeros(3)], object)
FITTED = Encoder().fit({"a": ["x", "y"], "b": [1, 2]})


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda: FITTED.transform({"a": ["x"]}), "the column 'b' is missing; there are 'a'"),
        (lambda: Encoder(["z"]).fit({"a": [1]}), "fit: the column 'z' is missing; there are 'a'"),
        (lambda: FITTED.transform({"a": ["x"], "b": [1, 2]}), "'b' has 2 rows, the first one 1"),
        (lambda: FITTED.transform({"a": [1], "b": [1]}), "'a' was fitted on text, but now it hol"),
        (lambda: FITTED.transform({"a": ["x"], "b": ["1"]}), "'b' was fitted on numbers, but now"),
        (lambda: Encoder().fit({"a": [1, "x"]}), "must hold text or numbers"),
        (lambda: Encoder().fit({"a": np.array([1, "x"], object)}), "text or numbers alone, got in"),
        (lambda: Encoder().fit({"a": [[1, 2]]}), r"'a' must have the shape \[N\], got \[1, 2\]"),
        (lambda: Encoder().fit({"a": np.array(["2020"], "M8")}), "text or numbers, got datetime64"),
        (lambda: Encoder().fit({"a": [b"a", "a"]}), "text or numbers alone, got bytes, str"),
        (lambda: Encoder().fit({"a": [2**63 + 1, -1]}), "no one type of NumPy can tell apart"),
        (lambda: Encoder().fit({"a": [2**53 + 1, 0.5]}), f"such as {2**53 + 1}; convert them"),
        (lambda: Encoder().fit({"a": [np.int64(2**53 + 1), 0.5]}), "no one type of NumPy can tell"),
        (lambda: Encoder().fit({"a": RAGGED}), "text or numbers alone, got ndarray"),
        (lambda: Encoder().fit({}), "the data has no columns"),
        (lambda: Encoder().fit({1, 2}), "expected a DataFrame, a mapping of columns or an array"),
        (lambda: Encoder().fit(np.zeros((1, 2, 3))), r"expected an array \[N\] or \[N, C\]"),
        (lambda: Encoder(min_count=0), "min_count must be an integer of 1 or more, got 0"),
        (lambda: Encoder("ab"), "columns must be names of columns, got 'ab'"),
        (lambda: FITTED.vocabulary("z"), "no column 'z'; there are 'a', 'b'"),
    ],
)
def test_mistakes(act, reason):
    with pytest.raises(ValueError, match=reason):
        act()


def test_it_must_be_fitted():
    for act in (lambda e: e.transform({"x": [1]}), lambda e: e.features(), lambda e: e.save("x")):
        with pytest.raises(RuntimeError, match="call fit first"):
            act(Encoder())


def test_factors_of_blocks():
    made = Factorizer()
    made.add([b"x", b"y", b"x"])
    made.add([])
    made.add([b"z", b"x"])
    factors = made.factors()
    assert [factors.distinct[code] for code in factors.codes] == ["x", "y", "x", "z", "x"]
    assert Encoder().fit_transform({"x": factors})["x"].tolist() == [1, 2, 1, 3, 1]
    some = factors[np.array([False, True, False, True, True])]
    assert isinstance(some, Factors)
    assert Encoder().fit({"x": some}).vocabulary("x") == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("n", "rule", "want"),
    [
        (1, "log2", 1),
        (2, "log2", 1),
        (1024, "log2", 10),
        (1025, "log2", 11),
        (1, "quartic", 6),
        (10_000, "quartic", 60),
        (10_001, "quartic", 61),
        (15, "auto", 6),
        (16, "auto", 12),
        (10_000, "auto", 60),
        (9_999, "auto", 54),
    ],
)
def test_embedding_dim(n, rule, want):
    assert embedding_dim(n, rule) == want


def test_embedding_dim_of_a_factor_and_by_an_encoder():
    assert embedding_dim(16, "quartic", k=0.2) == 1
    assert embedding_dim(16, "quartic", k=16) == 32
    encoder = Encoder().fit({"x": np.arange(100), "y": np.arange(100) % 4})
    assert [f.embedding_dim for f in encoder.features("log2")] == [7, 2]
    assert [f.embedding_dim for f in encoder.features(8)] == [8, 8]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((0,), "n must be an integer of 1 or more, got 0"),
        ((2.5,), "n must be an integer"),
        ((5, "cubic"), "rule must be one of 'log2', 'quartic', 'auto', got 'cubic'"),
        ((5, "quartic", 17), "k must be above 0 and at most 16, got 17"),
        ((5, "quartic", 0), "k must be above 0"),
    ],
)
def test_embedding_dim_out_of_range(arguments, reason):
    with pytest.raises(ValueError, match=reason):
        embedding_dim(*arguments)


def test_a_million_rows_take_seconds():
    random = np.random.default_rng(0)
    users = random.zipf(1.3, 1_000_000) % 200_000
    data = pd.DataFrame({"user": users, "city": np.char.add("c", (users % 5000).astype(str))})
    data["city"] = data["city"].astype(object)
    begun = time.perf_counter()
    ids = Encoder(min_count=2).fit_transform(data)
    seconds = time.perf_counter() - begun
    assert ids["user"].max() < len(np.unique(users))
    # About one second on two cores; the bound leaves room for a busy machine.
    assert seconds < 10
