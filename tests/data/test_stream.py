"""`stream` and `parquet`: each row once an epoch, in an order of (seed, epoch), from any batch."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from recops import training
from recops.cli import main
from recops.data import DataError, Dataset, Split, encode, parquet, stream
from recops.features import DenseFeature, SequenceFeature, SparseFeature
from recops.training import evaluation
from recops.training.streamed import Streamed
from tests.data import generated
from tests.small_run import figures

pa = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402

ROWS = 6000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six shards of train, of several row groups each."""
    place = tmp_path_factory.mktemp("stream")
    source = generated.write(place / "train.txt", ROWS, values=100)
    options = {"shard_rows": 1000, "memory": 1, "min_count": 2}
    encode(f"criteo:{source}", place / "out", verbose=0, **options)
    return place / "out"


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def rows_of(batches):
    """The batches as one array of rows: two categories, a number and the label."""
    found = []
    for inputs, labels in batches:
        columns = [inputs[name].numpy().astype(np.float64) for name in ("C1", "C2", "I1")]
        found.append(np.stack([*columns, labels.numpy()[:, 0]], axis=1))
    return np.concatenate(found) if found else np.zeros((0, 4))


def stored(part):
    columns = [part.inputs[name].astype(np.float64) for name in ("C1", "C2", "I1")]
    return np.stack([*columns, part.labels[:, 0]], axis=1)


def test_stored_order_is_that_of_the_shards(folder):
    data = stream(folder)
    assert len(data.train.shards) == 6
    batches = list(data.train.batches(700))
    assert [len(labels) for _, labels in batches[:-1]] == [700] * (len(batches) - 1)
    assert len(data.train.batches(700)) == len(batches) == -(-len(data.train) // 700)
    np.testing.assert_array_equal(rows_of(batches), stored(data.train))
    inputs, labels = batches[0]
    assert inputs["C1"].dtype == tf.int32
    assert inputs["I1"].shape == (700,)
    assert labels.shape == (700, 1)


def test_an_epoch_has_every_row_once_in_an_order_of_its_own(folder):
    part = stream(folder, interleave=2).train
    order = part.order(seed=5, epoch=1)
    assert sorted(order.tolist()) == list(range(len(part)))
    got = rows_of(part.batches(512, shuffle=True, seed=5, epoch=1))
    np.testing.assert_array_equal(got, stored(part)[order])
    assert (part.order(5, 1) == order).all()
    for other in ((5, 2), (6, 1)):
        assert (part.order(*other) != order).mean() > 0.9
    # Of one row group too, where there is nothing but its rows to shuffle.
    one = next(stream(folder).validation.by_shard())
    assert len(one.shards[0].groups) == 1
    assert (one.order(5, 1) != one.order(5, 2)).mean() > 0.9


def test_shuffling_mixes_shards_and_rows(folder):
    part = stream(folder, interleave=3).train
    ends = np.cumsum([sum(shard.groups) for shard in part.shards])
    first = np.searchsorted(ends, part.order(0, 0)[:300], side="right")
    assert len(set(first.tolist())) == 3
    assert np.abs(np.diff(part.order(0, 0)[:300])).mean() > 300


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("start", [0, 1, 3, 9, 100])
def test_an_epoch_goes_on_from_any_batch(folder, shuffle, start):
    part = stream(folder, interleave=2).train
    options = {"shuffle": shuffle, "seed": 2, "epoch": 4}
    unbroken = rows_of(part.batches(512, **options))
    rest = part.batches(512, **options, start=start)
    np.testing.assert_array_equal(rows_of(rest), unbroken[512 * start :])
    assert len(rest) == max(0, -(-len(part) // 512) - start)


def test_what_is_left_out_is_not_read(folder, monkeypatch):
    from recops.data.streaming import Stream

    part, read = stream(folder, interleave=1).train, []
    whole = Stream._read
    monkeypatch.setattr(Stream, "_read", lambda *args: read.append(args[1]) or whole(*args))
    windows = part._windows((0, 0))
    last = (len(part) - 1) // 64
    assert len(list(part.batches(64, shuffle=True, start=last))) == 1
    assert 1 <= len(read) < len(windows) / 3


def test_full_batches_alone(folder):
    part = stream(folder).train
    batches = part.batches(1024, drop_remainder=True)
    assert batches.element_spec[1].shape == (1024, 1)
    assert len(list(batches)) == len(part) // 1024


def test_each_worker_has_shards_of_its_own(folder):
    whole = stream(folder)
    parts = [stream(folder, worker=i, workers=3) for i in range(3)]
    paths = [shard.path for data in parts for shard in data.train.shards]
    assert sorted(paths) == [shard.path for shard in whole.train.shards]
    assert all(len(data.validation) == len(whole.validation) for data in parts)
    with pytest.raises(ValueError, match="7 workers need as many shards of train, there are 6"):
        stream(folder, workers=7)
    with pytest.raises(ValueError, match="worker must be 0 to 1, got 2"):
        stream(folder, worker=2, workers=2)


def test_inputs_are_chosen_and_read_as_arrays(folder):
    data = stream(folder).select(["C3", "I2"])
    assert [f.name for f in data.features] == ["C3", "I2"]
    inputs, _ = next(iter(data.test.batches(4)))
    assert sorted(inputs) == ["C3", "I2"]
    assert len(data.test.inputs["I2"]) == len(data.test.groups) == len(data.test)
    with pytest.raises(ValueError, match="no input 'C4'; there are 'C3', 'I2'"):
        data.train.select(["C4"])


def arrays(data):
    """The same data set in memory."""
    splits = [
        Split({f.name: part.inputs[f.name] for f in data.features}, part.labels, part.groups)
        for part in (data.train, data.validation, data.test)
    ]
    return Dataset(*splits, data.features)


def test_training_by_name_stops_resumes_and_judges_as_with_arrays(folder, tmp_path, monkeypatch):
    options = {"epochs": 3, "batch_size": 256, "seed": 1, "verbose": 0, "jit": "off"}
    options["learning_rate"] = 0.03
    unbroken = training.train_named("FM", f"stream:{folder}", out=tmp_path / "a", **options)
    assert unbroken.test["auc"] > 0.6
    # One group: its AUC is that of all rows.
    assert unbroken.test["gauc"] == pytest.approx(unbroken.test["auc"])
    training.train_named("FM", f"stream:{folder}", out=tmp_path / "b", **{**options, "epochs": 1})
    resumed = training.train_named(
        "FM", f"stream:{folder}", out=tmp_path / "b", resume=True, epochs=3, verbose=0
    )
    assert figures(resumed) == figures(unbroken)
    assert resumed.test == unbroken.test
    exact = training.scores(unbroken.model, arrays(stream(folder)).test)
    assert training.scores(unbroken.model, stream(folder).test) == pytest.approx(exact, abs=1e-6)

    monkeypatch.setattr(evaluation, "EXACT_ROWS", 100)
    streamed = training.scores(unbroken.model, stream(folder).test)
    assert streamed == pytest.approx(exact, abs=1e-3)
    assert streamed != exact


def test_the_command_trains_on_a_stream(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = f"train LSPLM --data stream:{folder} --epochs 1 --batch-size 512 --jit off"
    assert main(line.split()) == 0
    assert "test: auc" in capsys.readouterr().out
    assert (tmp_path / "runs" / "LSPLM-stream-out" / "model.keras").exists()


def test_figures_of_more_rows_than_can_be_sorted():
    random = np.random.default_rng(0)
    groups = random.integers(0, 400, 20_000)
    labels = random.integers(0, 2, 20_000)
    scores = random.random(20_000).astype("float32") * 0.7 + 0.3 * labels * (groups % 3 == 0)
    scores[::7] = 0.25
    from recops import metrics

    whole, some = Streamed(), Streamed(capacity=6000)
    for at in range(0, 20_000, 3000):
        rows = slice(at, at + 3000)
        for each in (whole, some):
            each.add(labels[rows, None], scores[rows, None], groups[rows])
    exact = {
        "auc": metrics.auc(labels, scores),
        "logloss": metrics.log_loss(labels, scores),
        "gauc": metrics.gauc(labels, scores, groups),
    }
    assert whole.figures() == pytest.approx(exact, abs=1e-4)
    assert whole.figures()["gauc"] == pytest.approx(exact["gauc"], abs=1e-9)
    assert sum(map(len, some._groups)) <= 6000
    # A sample of groups, each with all its rows.
    chosen = np.isin(groups, np.unique(np.concatenate(some._groups)))
    assert 1000 < chosen.sum() == sum(map(len, some._groups))
    sampled = metrics.gauc(labels[chosen], scores[chosen], groups[chosen])
    assert some.figures()["gauc"] == pytest.approx(sampled, abs=1e-9)


def shard(folder, number=1):
    return folder / "train" / f"{number:05d}.parquet"


def test_a_shard_that_is_cut_off(copy):
    path = shard(copy)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"00001.parquet has [\d,]+ bytes, but .* is cut off"):
        stream(copy)


def test_a_shard_that_is_missing(copy):
    shard(copy).unlink()
    with pytest.raises(DataError, match=r"the shard .*00001.parquet is missing; encode the"):
        stream(copy)


def rewritten(copy, change):
    """The second shard with another table, and what the manifest says of its size."""
    path = shard(copy)
    pq.write_table(change(pq.read_table(path)), path)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["splits"]["train"][1]["bytes"] = path.stat().st_size
    (copy / "manifest.json").write_text(json.dumps(manifest))


def test_a_shard_of_another_schema(copy):
    rewritten(copy, lambda table: table.drop_columns(["C7"]))
    with pytest.raises(DataError, match=r"00001.parquet has other columns than .*C7: int32"):
        stream(copy)


def test_a_shard_of_another_encoder(copy):
    rewritten(copy, lambda table: table.replace_schema_metadata({b"recops.encoder": b"0"}))
    with pytest.raises(DataError, match=r"00001.parquet was encoded by another encoder"):
        stream(copy)


def test_an_encoder_that_does_not_belong_to_the_shards(copy):
    text = (copy / "encoder.json").read_text()
    (copy / "encoder.json").write_text(text.replace('"min_count": 2', '"min_count": 3'))
    with pytest.raises(DataError, match=r"encoder\.json does not belong to the shards"):
        stream(copy)
    (copy / "encoder.json").unlink()
    with pytest.raises(DataError, match=r"encoder\.json: no such file"):
        stream(copy)


def test_a_manifest_that_is_missing_or_cut_off(copy, tmp_path):
    with pytest.raises(DataError, match="holds no encoded data"):
        stream(tmp_path)
    text = (copy / "manifest.json").read_text()
    (copy / "manifest.json").write_text(text[:50])
    with pytest.raises(DataError, match="is no manifest that recops encode wrote, or is cut off"):
        stream(copy)


def test_a_shard_that_is_damaged_inside_is_one_line(copy, tmp_path, monkeypatch, capsys):
    path = shard(copy)
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    path.write_bytes(bytes(content))
    monkeypatch.chdir(tmp_path)
    assert main(f"train FM --data stream:{copy} --epochs 1 --jit off".split()) == 2
    said = capsys.readouterr().err.strip()
    assert "00001.parquet cannot be read" in said
    assert "encode its source again" in said
    assert said.count("\n") == 0
    assert not (tmp_path / "runs").exists()


def clicks(folder, **columns):
    made = {
        "item": np.arange(60, dtype=np.int64) % 9,
        "tags": [list(range(i % 4)) for i in range(60)],
        "age": np.linspace(0, 1, 60),
        "user": np.arange(60) // 6,
        "label": np.arange(60) % 2,
        **columns,
    }
    for name in ("train", "validation", "test"):
        (folder / name).mkdir(parents=True)
        for part in range(2):
            pq.write_table(pa.table(made), folder / name / f"{part}.parquet", row_group_size=25)
    return folder


SPEC = [SparseFeature("item", 9), SequenceFeature("tags", 9, max_length=2), DenseFeature("age")]


def test_parquet_files_of_ids(tmp_path):
    data = parquet(clicks(tmp_path / "in"), SPEC, group="user")
    assert len(data.train) == 120
    assert len(data.train.shards) == 2
    inputs, labels = next(iter(data.train.batches(50)))
    assert inputs["item"].numpy().tolist() == [i % 9 for i in range(50)]
    assert inputs["tags"].numpy()[:4].tolist() == [[0, 0], [0, 0], [0, 1], [0, 1]]
    assert inputs["age"].dtype == tf.float32
    assert labels.numpy()[:3, 0].tolist() == [0, 1, 0]
    assert data.test.groups[:7].tolist() == [0] * 6 + [1]


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        ([SparseFeature("other", 9)], {}, "has no column 'other'; it has 'item', 'tags'"),
        ([SparseFeature("age", 9)], {}, "'age' must hold integers, got double"),
        ([SparseFeature("tags", 9)], {}, "'tags' must hold integers, got list"),
        ([SparseFeature("item", 5)], {}, r"id 8 of 'item' is outside 0\.\.5"),
        (SPEC, {"label": "click"}, "has no column 'click'"),
    ],
)
def test_parquet_files_that_do_not_fit(features, options, message, tmp_path):
    with pytest.raises(DataError, match=message):
        parquet(clicks(tmp_path / "in"), features, **options)


def test_the_code_of_the_document_runs(folder, tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    (tmp_path / "criteo").symlink_to(folder)
    clicks(tmp_path / "clicks", price=np.linspace(0, 9, 60), click=np.arange(60) % 2)
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks:
        exec(compile(block, "data.md", "exec"), names)
    assert len(names["ads"].train) > len(names["clicks"].train) == 120


def test_parquet_folders_without_files(tmp_path):
    folder = clicks(tmp_path / "in")
    shutil.rmtree(folder / "test")
    with pytest.raises(DataError, match="has no files of the test split"):
        parquet(folder, SPEC)
    (folder / "test.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"test\.parquet is no Parquet file, or is damaged"):
        parquet(folder, SPEC)
