"""Training: early stopping, runs that survive a kill, and errors before anything is done."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import recops
from recops import training
from recops._core import compat
from recops.data import Split
from recops.models import CATALOGUE
from recops.training import loop
from recops.training.runs import standing
from recops.training.watch import Watch
from tests.small_run import dataset, figures, model, run

keras3 = pytest.mark.needs("keras3", "dropout cannot be reseeded")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return run(tmp_path_factory.mktemp("unbroken") / "run")


def history(folder):
    return json.loads((folder / "history.json").read_text())


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_it_learns_and_writes_what_it_says(unbroken):
    assert unbroken.test["auc"] > 0.85
    assert [epoch["epoch"] for epoch in unbroken.epochs] == [1, 2, 3, 4]
    assert unbroken.samples_per_second > 0
    assert unbroken.ms_per_step > 0
    written = history(unbroken.out)
    assert written["epochs"] == unbroken.epochs
    assert written["test"] == unbroken.test
    assert written["best_epoch"] == unbroken.best_epoch
    assert written["options"]["batch_size"] == 64
    states = {f"state/epoch-{epoch:04d}.keras" for epoch in (unbroken.best_epoch, 4)}
    assert set(names(unbroken.out)) == {"history.json", "model.keras", *states}


def test_the_saved_model_is_the_best_epoch(unbroken):
    part = dataset().test.select(unbroken.model.input)
    loaded = tf.keras.models.load_model(unbroken.out / "model.keras")
    want = unbroken.model.predict(part.batches(64), verbose=0)
    np.testing.assert_allclose(loaded.predict(part.batches(64), verbose=0), want, atol=1e-6)


@keras3
def test_a_killed_run_resumed_is_an_unbroken_one(unbroken, tmp_path):
    out = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-m", "tests.small_run", str(out)], capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    assert len(history(out)["epochs"]) == 2
    assert not (out / "model.keras").exists()
    resumed = run(out, resume=True)
    assert figures(resumed) == figures(unbroken)
    assert resumed.test == unbroken.test
    assert names(out) == names(unbroken.out)


@keras3
def test_a_state_that_the_history_does_not_name_is_none(unbroken, tmp_path):
    out = tmp_path / "run"
    run(out, epochs=3)
    (out / "state" / "epoch-0004.keras").write_bytes(b"cut off")
    (out / "state" / ".epoch-0005.writing.keras").write_bytes(b"cut off")
    assert figures(run(out, resume=True)) == figures(unbroken)


def test_a_finished_run_resumed_trains_no_more(unbroken, monkeypatch):
    monkeypatch.setattr(loop, "_epoch", lambda *_: pytest.fail("trained"))
    again = run(unbroken.out, resume=True)
    assert (again.epochs, again.test) == (unbroken.epochs, unbroken.test)


def test_another_seed_is_another_run(unbroken):
    assert figures(run(None, epochs=1, seed=6)) != figures(unbroken)[:1]


@pytest.mark.parametrize(
    ("aucs", "expected"),
    [([], (0, 0)), ([0.5], (0, 0)), ([0.5, 0.7, 0.7], (1, 1)), ([0.6, 0.5, 0.5, 0.5], (0, 3))],
)
def test_standing(aucs, expected):
    assert standing(aucs) == expected


def test_early_stopping_keeps_the_best_weights(monkeypatch):
    series = iter([0.5, 0.7, 0.6, 0.65, 0.5])
    scores = training.scores
    two = run(None, epochs=2)
    monkeypatch.setattr(Watch, "on_epoch_end", _with_auc(Watch.on_epoch_end, series))
    stopped = run(None, epochs=9, patience=2)
    assert [epoch["validation_auc"] for epoch in stopped.epochs] == [0.5, 0.7, 0.6, 0.65]
    assert (stopped.best_epoch, stopped.validation_auc) == (2, 0.7)
    if compat.KERAS_3:
        assert two.best_epoch == 2
        assert scores(stopped.model, dataset().test) == two.test


def _with_auc(on_epoch_end, series):
    def replaced(self, epoch, logs=None):
        on_epoch_end(self, epoch, logs)
        self.validation = {**self.validation, "auc": next(series)}

    return replaced


def test_fewer_rows_than_a_batch():
    result = run(None, epochs=1, batch_size=5000)
    assert result.samples_per_second > 0
    assert result.out is None


def test_a_folder_that_holds_a_run_is_left_alone(unbroken):
    before = history(unbroken.out)
    with pytest.raises(ValueError, match=r"already holds a run.*--resume"):
        run(unbroken.out)
    assert history(unbroken.out) == before


def test_resume_needs_a_run_with_the_same_options(unbroken, tmp_path):
    with pytest.raises(ValueError, match="holds no run to resume"):
        run(tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()
    with pytest.raises(ValueError, match="has batch_size 64, but now it is 16"):
        run(unbroken.out, resume=True, batch_size=16)
    with pytest.raises(ValueError, match="has model None, but now it is 'FM'"):
        run(unbroken.out, resume=True, options={"model": "FM"})
    (tmp_path / "history.json").write_text("{")
    with pytest.raises(ValueError, match="is not the history of a run"):
        run(tmp_path, resume=True)


def test_an_unwritable_folder_is_found_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_epoch", lambda *_: pytest.fail("trained"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match=r"cannot be written.*choose another"):
        run(tmp_path / "file" / "run")
    assert names(tmp_path) == ["file"]


def test_a_run_that_fails_at_once_leaves_nothing(tmp_path):
    diverging = model()
    diverging.optimizer.learning_rate.assign(float("nan"))
    with pytest.raises(ValueError, match=r"predictions are not finite.*lower the learning rate"):
        training.train(
            diverging, dataset(), epochs=2, batch_size=32, out=tmp_path / "a" / "b", verbose=0
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["epochs", "batch_size", "patience", "seed"])
def test_numbers_out_of_range(name):
    with pytest.raises(ValueError, match=f"{name} must be"):
        run(None, **{name: -1})


def test_every_model_has_settings_and_trains_by_name(monkeypatch):
    assert set(training.TRAINING) == set(CATALOGUE)
    monkeypatch.setitem(training.DATA, "movielens-100k", dataset)
    result = training.train_named("FM", epochs=1, batch_size=64, backend="reference", verbose=0)
    assert 0 < result.test["auc"] < 1
    assert recops.info().backend == "auto"


def test_names_and_options_are_checked(monkeypatch):
    monkeypatch.setitem(training.DATA, "movielens-100k", dataset)
    for options, said in (
        ({"precision": "half"}, "mixed precision must be one of float32"),
        ({"jit": "yes"}, "jit must be one of auto"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"backend": "tpu"}, "expected one of auto, cpp"),
    ):
        with pytest.raises(ValueError, match=said):
            training.train_named("FM", **options)
    monkeypatch.setenv("RECOPS_CPP", "0")
    with pytest.raises(recops.BackendError, match="'cpp' cannot run here"):
        training.train_named("FM", backend="cpp")


def test_a_model_gets_its_own_inputs_alone(recwarn):
    whole = dataset()
    features = [feature for feature in whole.features if feature.name != "noise"]
    made = CATALOGUE["FM"].build(features, seed=0)
    made.compile("adam", "binary_crossentropy")
    assert 0 < training.train(made, whole, epochs=1, batch_size=400, verbose=0).test["auc"] < 1
    assert 0 < training.scores(made, whole.test)["auc"] < 1
    assert not [w for w in recwarn if "input" in str(w.message).lower()]


class Own(tf.keras.Model):
    """A model that is no graph of layers: nothing tells what it reads."""

    def __init__(self):
        super().__init__()
        self.dense = tf.keras.layers.Dense(1, activation="sigmoid")

    def call(self, inputs):
        return self.dense(tf.cast(inputs["noise"], tf.float32)[:, None])


def test_a_model_of_its_own_class_gets_all_inputs():
    made = Own()
    made.compile("adam", "binary_crossentropy")
    part = dataset().test
    made.fit(part.batches(30), verbose=0)
    assert 0 < training.scores(made, part)["auc"] < 1


def test_precision_is_the_models_alone():
    before = tf.keras.mixed_precision.global_policy().name
    made = training.build("FM", dataset(), precision="mixed_bfloat16")
    assert made.get_layer("embedding").compute_dtype == "bfloat16"
    assert tf.keras.mixed_precision.global_policy().name == before
    # Gradients of the loss itself would be 0 in float16.
    for precision, scaled in (("mixed_bfloat16", False), ("mixed_float16", True)):
        optimizer = training.build("FM", dataset(), precision=precision).optimizer
        assert ("LossScale" in type(optimizer).__name__) == scaled


def test_every_epoch_has_a_shuffle_of_its_own(monkeypatch):
    asked = []
    batches = Split.batches

    def spy(self, batch_size, shuffle=False, seed=0, epoch=0):
        if shuffle:
            asked.append((seed, epoch))
        return batches(self, batch_size, shuffle, seed, epoch)

    monkeypatch.setattr(Split, "batches", spy)
    run(None, epochs=2)
    assert asked == [(5, 0), (5, 1)]


def test_a_transformer_learns_what_follows_and_reloads(monkeypatch, tmp_path):
    monkeypatch.setitem(training.DATA, "movielens-100k", dataset)
    out = tmp_path / "run"
    result = training.train_named(
        "Transformer", epochs=8, batch_size=64, learning_rate=0.005, patience=8, out=out, verbose=0
    )
    assert result.criterion == "hit_rate@10"
    assert max(epoch["validation_ndcg@10"] for epoch in result.epochs) > 0.85
    assert result.test["hit_rate@10"] > 0.8 > result.baseline["hit_rate@10"]
    again = tf.keras.models.load_model(out / "model.keras")
    part = dataset("next_click").test
    expected = result.model.predict(dict(part.inputs), verbose=0)
    np.testing.assert_array_equal(again.predict(dict(part.inputs), verbose=0), expected)


def test_a_transformer_needs_its_two_sequences():
    with pytest.raises(ValueError, match="expected sequence features 'source' and 'target'"):
        CATALOGUE["Transformer"].build(dataset().features)
