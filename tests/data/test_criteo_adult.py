"""The readers of Criteo and Adult on hand-written lines in the form of the real files."""

import gzip

import numpy as np
import pytest
import tensorflow as tf

from recops import training
from recops.data import DataError, adult, criteo
from recops.models import DeepFM

# The first line of the challenge, and one with a negative count and an empty category.
FIRST = (
    "0\t1\t1\t5\t0\t1382\t4\t15\t2\t181\t1\t2\t\t2\t68fd1e64\t80e26c9b\tfb936136\t7b4723c4\t"
    "25c83c98\t7e0ccccf\tde7995b8\t1f89b562\ta73ee510\ta8cd5504\tb2cb9c98\t37c9c164\t2824a5f6\t"
    "1adce6ef\t8ba8b39a\t891b62e7\te5ba7672\tf54016b9\t21ddcdc9\tb1252a9d\t07b5194c\t\t3a171ecb\t"
    "c5c50484\te8b83407\t9727dd16"
)
SECOND = FIRST.replace("0\t1\t1\t5", "1\t\t-2\t5", 1).replace("68fd1e64", "05db9164")


def ads(path, count=100, **changes):
    lines = [SECOND if i % 4 == 1 else FIRST for i in range(count)]
    for at, line in changes.items():
        lines[int(at[1:])] = line
    path.write_text("\n".join(lines) + "\n")
    return path


def whole(data, name):
    return np.concatenate([s.inputs[name] for s in (data.train, data.validation, data.test)])


def test_criteo_in_order_of_time(tmp_path):
    data = criteo(ads(tmp_path / "train.txt"), split="time", min_count=2)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [80, 10, 10]
    assert data.train.labels[:4, 0].tolist() == [0, 1, 0, 0]
    assert [f.name for f in data.features] == [
        *(f"C{i}" for i in range(1, 27)), *(f"I{i}" for i in range(1, 14)),
    ]  # fmt: skip
    assert data.train.inputs["C1"][:4].tolist() == [1, 2, 1, 1]
    # Empty is a value like the others.
    assert data.train.inputs["C22"][:2].tolist() == [1, 1]
    got = [data.train.inputs[name][:2].tolist() for name in ("I1", "I2", "I5", "I12")]
    want = [[np.log(2), 0], [np.log(2), -np.log(3)], [np.log(1383)] * 2, [0, 0]]
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_criteo_learns_ids_and_percentiles_of_train_alone(tmp_path):
    last = FIRST.replace("68fd1e64", "aaaaaaaa").replace("0\t1\t1", "0\t900\t1")
    path = ads(tmp_path / "train.txt", L99=last)
    data = criteo(path, split="time", min_count=1, numeric="percentile")
    assert data.features[0].vocabulary_size == 2
    assert data.test.inputs["C1"][-1] == 0
    assert data.test.inputs["I1"][-1] == 1
    assert data.train.inputs["I1"][:2].tolist() == [0.5, 0.5]
    # One of four is smaller.
    np.testing.assert_allclose(data.train.inputs["I2"][[0, 1]], [0.62, 0.12], atol=0.02)
    assert criteo(path, split="time", min_count=21).features[0].vocabulary_size == 1


def test_criteo_at_random_gzipped_in_a_folder(tmp_path):
    plain = ads(tmp_path / "rows.txt", L7=FIRST.replace("68fd1e64", "aaaaaaaa"))
    folder = tmp_path / "dac"
    folder.mkdir()
    (folder / "train.txt.gz").write_bytes(gzip.compress(plain.read_bytes()))
    (folder / "test.txt").write_text(FIRST[2:])
    made = [criteo(folder, seed=seed, min_count=1) for seed in (0, 0, 1)]
    assert [len(s) for s in (made[0].train, made[0].validation, made[0].test)] == [80, 10, 10]
    ids = [data.train.inputs["C1"].tolist() for data in made]
    assert ids[0] == ids[1] != ids[2]
    assert np.bincount(whole(made[0], "C1")).tolist()[-3:] in ([74, 25, 1], [1, 74, 25])


def test_criteo_says_what_it_left_out(tmp_path, capsys):
    criteo(ads(tmp_path / "a", 400, L9="0\t1\t1", L20=FIRST.replace("1382", "x")), min_count=1)
    said = capsys.readouterr().err
    assert "2 of 400 lines left out: line 10: expected 40 columns, got 3; line 21: expected" in said
    assert "a number as I5, got 'x'" in said


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        (FIRST[2:] + "\n", "1 of 1 lines do not fit the format: line 1: expected 40 columns, got"),
        ("2" + FIRST[1:] + "\n", "line 1: expected the label 0 or 1, got '2'"),
        ("label,I1\n0,1\n", "line 1: expected 40 columns, got 1; line 2"),
    ],
)
def test_criteo_refuses(text, reason, tmp_path):
    (tmp_path / "train.txt").write_text(text)
    with pytest.raises(DataError, match=f"criteo: .*{reason}"):
        criteo(tmp_path)


def test_criteo_mistakes(tmp_path):
    with pytest.raises(DataError, match="should hold one train file, found none"):
        criteo(tmp_path)
    with pytest.raises(ValueError, match="criteo: the data set has no task 'sequence', only 'rank"):
        criteo(tmp_path, task="sequence")
    with pytest.raises(ValueError, match="numeric must be one of 'log', 'percentile', got 'raw'"):
        criteo(tmp_path, numeric="raw")
    with pytest.raises(ValueError, match="split must be one of 'random', 'time', got 'user'"):
        criteo(tmp_path, split="user")


def test_too_few_rows_to_hold_a_tenth_out(tmp_path):
    for split in ("random", "time"):
        with pytest.raises(DataError, match=r"criteo: .*/a: of 9 rows no tenth .* give 10 or more"):
            criteo(ads(tmp_path / "a", 9), split=split)
    with pytest.raises(DataError, match=r"adult: .*adult.data: of 9 rows no tenth"):
        adult(census(tmp_path / "b", train=9))


def test_a_model_trains_on_criteo(tmp_path):
    data = criteo(ads(tmp_path / "a", 400), min_count=1).select(["C1", "C2", "I2"])
    model = DeepFM(training.sized(data, 2), hidden_units=[4], seed=0)
    model.compile(tf.keras.optimizers.Adam(0.05), "binary_crossentropy", jit_compile=False)
    # C1 and I2 tell the label.
    assert training.train(model, data, epochs=2, batch_size=32, verbose=0).test["auc"] == 1


PEOPLE = [
    "39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, Male, "
    "2174, 0, 40, United-States, <=50K",
    "54, ?, 180211, Some-college, 10, Married-civ-spouse, ?, Husband, Asian-Pac-Islander, Male, "
    "0, 0, 60, South, >50K",
]


def census(folder, train=60, test=PEOPLE):
    folder.mkdir(exist_ok=True)
    rows = [PEOPLE[i % 3 == 0] for i in range(train)]
    (folder / "adult.data").write_text("\n".join(rows) + "\n\n")
    dotted = "".join(f"{line}.\n" for line in test)
    (folder / "adult.test").write_text("|1x3 Cross validator\n" + dotted + "\n")
    return folder


def test_adult(tmp_path, capsys):
    stranger = PEOPLE[0].replace("State-gov", "Never-worked").replace("39,", "17,", 1)
    data = adult(census(tmp_path / "a", test=[*PEOPLE, stranger]), numeric="log")
    assert [len(s) for s in (data.train, data.validation, data.test)] == [54, 6, 3]
    names = [f.name for f in data.features]
    assert names == [
        "workclass", "education", "marital_status", "occupation", "relationship", "race", "sex",
        "native_country", "age", "education_num", "capital_gain", "capital_loss", "hours_per_week",
    ]  # fmt: skip
    assert data.test.labels[:, 0].tolist() == [0, 1, 0]
    # "?" is missing, and a value that train lacks is unknown.
    assert data.test.inputs["workclass"].tolist() == [1, 0, 0]
    assert data.test.inputs["education"].tolist() == [1, 2, 1]
    np.testing.assert_allclose(data.test.inputs["age"], np.log([40, 55, 18]), rtol=1e-6)
    np.testing.assert_allclose(data.test.inputs["capital_gain"][:2], [np.log(2175), 0], rtol=1e-6)
    assert capsys.readouterr().err == ""
    same = adult(tmp_path / "a" / "adult.data", numeric="log")
    assert same.train.inputs["age"].tolist() == data.train.inputs["age"].tolist()
    ranks = adult(tmp_path / "a").test.inputs["age"]
    assert ranks[2] == 0 < ranks[0] < ranks[1] < 1


def test_adult_refuses(tmp_path):
    with pytest.raises(DataError, match=r"adult: .*adult.data: no such file"):
        adult(tmp_path)
    folder = census(tmp_path / "a")
    (folder / "adult.test").unlink()
    with pytest.raises(DataError, match=r"adult: .*adult.test: no such file"):
        adult(folder)
    (folder / "adult.test").write_text("|1x3 Cross validator\n")
    with pytest.raises(DataError, match=r"adult.test holds no line of data"):
        adult(folder)
    (folder / "adult.test").write_text(PEOPLE[0].replace("<=50K", "poor"))
    with pytest.raises(DataError, match=r"line 1: expected the income .* or >50K"):
        adult(folder)
    with pytest.raises(ValueError, match="adult: the data set has no task 'retrieval'"):
        adult(folder, task="retrieval")
