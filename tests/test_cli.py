"""The command line: what it prints, and one line and exit code 2 for a user's mistake."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace

import pytest
import tensorflow as tf

from recops import __version__, training
from recops._core import dispatch
from recops.cli import main
from recops.models import CATALOGUE, ESTIMATORS
from recops.profiling import op_bench
from recops.training import loop
from tests.small_run import dataset


@pytest.fixture(autouse=True)
def _small(monkeypatch, tmp_path):
    monkeypatch.setitem(training.DATA, "movielens-100k", dataset)
    monkeypatch.chdir(tmp_path)


def code_of(line):
    try:
        return main(line.split())
    except SystemExit as stopped:
        return stopped.code


def test_train_writes_a_run_and_resumes_it(tmp_path, capsys):
    line = "train FM --batch-size 64 --learning-rate 0.02 --seed 3 --jit off"
    assert code_of(f"{line} --epochs 1") == 0
    folder = tmp_path / "runs" / "FM-movielens-100k"
    said = capsys.readouterr()
    assert "test: auc" in said.out
    assert "samples/s" in said.out
    assert tf.keras.models.load_model(folder / "model.keras").name == "FM"

    assert code_of(f"{line} --epochs 2") == 2
    assert "--resume" in capsys.readouterr().err
    # What is not given is as it was, and more epochs may be asked for.
    assert code_of("train FM --resume --epochs 2") == 0
    written = json.loads((folder / "history.json").read_text())
    assert len(written["epochs"]) == 2
    assert written["options"]["learning_rate"] == 0.02
    assert code_of("train FM --resume --batch-size 32") == 2
    assert "has batch_size 64, but now it is 32" in capsys.readouterr().err
    assert written["options"]["optimizer"] == "lazy_adam"


def test_train_names_its_optimizer_and_resumes_with_it(tmp_path, capsys):
    assert code_of("train FM --batch-size 512 --optimizer adagrad --jit off --epochs 1") == 0
    history = tmp_path / "runs" / "FM-movielens-100k" / "history.json"
    assert json.loads(history.read_text())["options"]["optimizer"] == "adagrad"
    assert code_of("train FM --resume --optimizer sgd --epochs 2") == 2
    assert "has optimizer 'adagrad', but now it is 'sgd'" in capsys.readouterr().err
    assert code_of("train FM --resume --epochs 2") == 0
    state = tf.keras.models.load_model(history.parent / "model.keras")
    assert state.optimizer.name == "lazy_adagrad"


def test_a_run_of_before_there_was_a_choice_goes_on_as_it_was(tmp_path, monkeypatch):
    now = training.TRAINING["DeepFM"]
    assert now.options["l2_embedding_rows"] == "batch"
    then = replace(now, options={**now.options, "l2_embedding_rows": "all"})
    monkeypatch.setitem(training.TRAINING, "DeepFM", then)
    assert code_of("train DeepFM --batch-size 512 --optimizer adam --jit off --epochs 1") == 0
    history = tmp_path / "runs" / "DeepFM-movielens-100k" / "history.json"
    content = json.loads(history.read_text())
    del content["options"]["optimizer"], content["options"]["l2_embedding_rows"]
    history.write_text(json.dumps(content))
    monkeypatch.setitem(training.TRAINING, "DeepFM", now)
    assert code_of("train DeepFM --resume --epochs 2") == 0
    content = json.loads(history.read_text())
    assert len(content["epochs"]) == 2
    assert content["options"]["optimizer"] == "adam"
    assert content["options"]["l2_embedding_rows"] == "all"


def test_wide_and_deep_has_an_optimizer_for_each_part():
    model = training.build("WideDeep", dataset())
    wide, tables, rest = model.optimizer.optimizers
    assert [each.name for each in (wide, tables, rest)] == ["lazy_ftrl", "lazy_adam", "lazy_adam"]
    assert (tables.beta_1, rest.beta_1) == (0.0, 0.9)
    rate = training.TRAINING["WideDeep"].learning_rate
    assert float(model.optimizer.learning_rate) == pytest.approx(rate)
    assert wide.get_config()["l1"] > 0
    # A penalty of all rows makes all gradients dense: their momentum is of the last step.
    assert training.build("FM", dataset()).optimizer.name == "lazy_adam"
    adam = training.build("WideDeep", dataset(), optimizer="adam", learning_rate=0.5)
    assert type(adam.optimizer) is tf.keras.optimizers.Adam
    assert float(adam.optimizer.learning_rate) == 0.5


MISTAKES = {
    "": "COMMAND",
    "dance": "invalid choice: 'dance'",
    "train": "MODEL",
    "train Nope": "got 'Nope'",
    "train FM --data nope": "data must be one of movielens-100k, adult:PATH",
    "train FM --data libfm:": "libfm:PATH, stream:PATH, got 'libfm:'",
    "train FM --data libfm:nope.txt": "libfm: nope.txt: no such file",
    "train DIN --data libfm:file": "libfm: the data set has no task 'sequence', only 'ranking'",
    "train FM --backend nope": "expected one of auto, cpp, xla, reference, got 'nope'",
    "train FM --backend cpp": "RECOPS_CPP=0 switches the native library off",
    "train FM --mixed-precision half": "got 'half'",
    "train FM --jit maybe": "got 'maybe'",
    "train FM --optimizer nope": "optimizer must be one of lazy_adam, adam, adagrad, "
    "rowwise_adagrad, ftrl, sgd, got 'nope'",
    "train FM --epochs 0": "--epochs: expected a whole number of 1 or more, got '0'",
    "train FM --epochs 1.5": "got '1.5'",
    "train FM --batch-size -4": "--batch-size: expected a whole number of 1 or more, got '-4'",
    "train FM --patience 0": "--patience",
    "train FM --seed -1": "--seed",
    "train FM --learning-rate nan": "--learning-rate: expected a number above 0, got 'nan'",
    "train FM --learning-rate inf": "--learning-rate",
    "train FM --out file/run": "file/run cannot be written",
    "train FM --out empty --resume": "holds no run to resume",
    "bench nope": "expected an op among",
    "bench --seconds 0": "--seconds",
    "bench fm_interaction --out empty": "empty cannot be written",
    "bench fm_interaction --out file/rows.jsonl": "file/rows.jsonl cannot be written",
    "build --force": "no C++ compiler: CXX=no-such-compiler is not on the path",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line_and_code_2(line, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RECOPS_CPP", "0")
    monkeypatch.setenv("CXX", "no-such-compiler")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    assert code_of(line) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("recops")
    assert MISTAKES[line] in said.err
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["empty", "file"]


def test_an_unknown_backend_in_the_environment(monkeypatch, capsys):
    monkeypatch.setenv("RECOPS_BACKEND", "fast")
    # A choice that another test made for the process would win over the environment.
    monkeypatch.setattr(dispatch, "_process_choice", None)
    for line in ("train FM", "info"):
        assert code_of(line) == 2
        assert capsys.readouterr().err.startswith("recops: RECOPS_BACKEND: expected one of auto")


@pytest.mark.parametrize("broken", ["empty", "truncated"])
def test_data_that_cannot_be_read(broken, tmp_path, monkeypatch, capsys):
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "data"
    place.mkdir()
    if broken == "truncated":
        place = place / "ml-100k.zip"
        with zipfile.ZipFile(place, "w") as archive:
            archive.writestr("u.data", "1\t2\t3\t4\n" * 1000)
        place.write_bytes(place.read_bytes()[:-40])
    monkeypatch.setenv("RECOPS_DATA", str(place))
    assert code_of("train FM --out run") == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert f"RECOPS_DATA={place}" in said.err
    assert not (tmp_path / "run").exists()


def test_a_feature_missing_and_an_id_beyond_the_vocabulary(monkeypatch, capsys):
    def broken(change):
        def read(task):
            good = dataset(task)
            inputs = {**good.train.inputs}
            change(inputs)
            return replace(good, train=replace(good.train, inputs=inputs))

        return read

    def too_large(inputs):
        inputs["item"] = inputs["item"] + 12

    for change, said in (
        (lambda inputs: inputs.pop("item"), "lacks the feature 'item'"),
        (too_large, "is outside 0..12"),
    ):
        monkeypatch.setitem(training.DATA, "movielens-100k", broken(change))
        assert code_of("train FM --out run") == 2
        assert said in capsys.readouterr().err


def test_an_interrupt_names_resume(monkeypatch, tmp_path, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_epoch", interrupted)
    assert code_of("train FM --out my-run") == 130
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    command = said.split("recops train")[1]
    assert command.split() == ["FM", "--data", "movielens-100k", "--out", "my-run", "--resume"]

    monkeypatch.undo()
    monkeypatch.setitem(training.DATA, "movielens-100k", dataset)
    monkeypatch.chdir(tmp_path)
    assert code_of(f"train {command} --epochs 1") == 0


def test_an_error_that_is_none_of_the_users_keeps_its_traceback(monkeypatch):
    def defect(*_, **__):
        raise KeyError("defect")

    monkeypatch.setattr(training, "train_named", defect)
    with pytest.raises(KeyError, match="defect"):
        main(["train", "FM"])


def _row(status):
    return op_bench.Row(
        "fm_interaction", "tiny", "xla", "graph", "forward", "float32", 1.0, 0.9, 1.1, 5.0, None,
        0.0, 2.0, status, "CPU", 1, "2", "3", __version__, "",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("status", "code"), [("ok", 0), ("wrong: error 1.0e+00", 1), ("failed: no", 1)]
)
def test_bench_fails_on_a_wrong_row(status, code, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(op_bench, "run", lambda *_: iter([_row("ok"), _row(status)]))
    assert code_of("bench fm_interaction --cases smoke --out new/rows.jsonl") == code
    lines = (tmp_path / "new" / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["ok", status]
    said = capsys.readouterr()
    assert "fm_interaction" in said.out
    assert said.err.startswith("[1/")


def test_bench_compares_with_rows_it_kept(tmp_path, monkeypatch, capsys):
    stock = dataclasses.replace(_row("ok"), provider="stock.gathers", median_ms=4.0)
    monkeypatch.setattr(op_bench, "run", lambda *_: iter([_row("ok"), stock]))
    assert code_of("bench fm_interaction --cases smoke --out kept.jsonl") == 0
    assert code_of("bench fm_interaction --cases smoke --compare kept.jsonl") == 0
    slow = dataclasses.replace(_row("ok"), median_ms=2.0, case="criteo_b256")
    kept = [dataclasses.replace(r, case="criteo_b256") for r in (_row("ok"), stock)]
    (tmp_path / "kept.jsonl").write_text("".join(json.dumps(r.to_dict()) + "\n" for r in kept))
    monkeypatch.setattr(op_bench, "run", lambda *_: iter([slow, kept[1]]))
    assert code_of("bench fm_interaction --cases smoke --compare kept.jsonl") == 1
    assert "4.00x the best stock form before, 2.00x now" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read (No such file"),
        ("{}\n", "is not a file of"),
        ("x", "is not a file of"),
    ],
)
def test_bench_names_a_file_that_it_cannot_compare_with(content, said, tmp_path, capsys):
    if content is not None:
        (tmp_path / "kept.jsonl").write_text(content)
    assert code_of("bench fm_interaction --cases smoke --compare kept.jsonl") == 2
    assert said in capsys.readouterr().err


def test_a_bench_that_is_stopped_writes_nothing(tmp_path, monkeypatch, capsys):
    def stopped(*_):
        yield _row("ok")
        raise KeyboardInterrupt

    monkeypatch.setattr(op_bench, "run", stopped)
    (tmp_path / "rows.jsonl").write_text("before\n")
    assert code_of("bench fm_interaction --cases smoke --out rows.jsonl") == 130
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]
    assert (tmp_path / "rows.jsonl").read_text() == "before\n"


def test_models_lists_the_catalogue(capsys):
    assert code_of("models") == 0
    said = capsys.readouterr().out
    for entry in (*CATALOGUE.values(), *ESTIMATORS.values()):
        assert entry.paper in said
        assert entry.needs in said


def test_info_and_version(capsys):
    assert code_of("info --json") == 0
    assert json.loads(capsys.readouterr().out)["versions"]["recops"] == __version__
    assert code_of("info") == 0
    assert "native library" in capsys.readouterr().out
    assert code_of("--version") == 0
    assert capsys.readouterr().out == f"recops {__version__}\n"


def test_the_module_is_the_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "recops", "train", "Nope"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("recops: train: model must be one of")
