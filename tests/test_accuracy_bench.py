"""The accuracy and precision runs: what stands in their tables, and when they fail."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from recops.features import SequenceFeature
from recops.models import CATALOGUE, DIN
from recops.training import TRAINING
from tests.models.planted import FEATURES
from tests.small_run import dataset

BENCH = Path(__file__).resolve().parent.parent / "bench"
SEQUENCES = [*FEATURES, SequenceFeature("clicks", 12, 3, 4, target="item")]
NAMES = ("accuracy", "accuracy_baseline", "precision")


@pytest.fixture
def bench(monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.syspath_prepend(str(BENCH))
    yield __import__
    for name in NAMES:
        sys.modules.pop(name, None)


def row(model, auc, **more):
    return {"model": model, "test": {"auc": auc, "logloss": 0.5, "gauc": 0.7}, **more}


def test_the_table_of_accuracy_names_each_task_and_orders_by_auc(bench):
    table = bench("accuracy").table(
        [
            row("FM", 0.77, seed=0),
            row("DIN", 0.80, seed=0, task="sequence"),
            row("DIN", 0.81, seed=1, task="sequence"),
        ]
    )
    assert [line.split(" | ")[:4] for line in table.splitlines()[2:]] == [
        ["| DIN", "sequence", "2", "0.8050 ± 0.0071"],
        ["| FM", "ranking", "1", "0.7700"],
    ]


def test_kept_rows_make_the_tables_in_the_document(bench):
    text = (BENCH.parent / "docs" / "accuracy.md").read_text()
    for name in ("accuracy", "precision"):
        module = bench(name)
        made = module.table(module.read(BENCH / "results" / f"{name}.jsonl"))
        assert f"{module.BEGIN}\n{made}\n{module.END}" in text


def test_without_history_is_din_less_its_history(bench):
    options = {**TRAINING["DIN"].options, "hidden_units": (8, 4)}
    whole = DIN(SEQUENCES, **options)
    less = bench("accuracy_baseline").without_history(SEQUENCES[:-1], 0, **options)
    assert set(whole.input) - set(less.input) == {"clicks"}
    mine, its = (m.get_layer("hidden").get_config() for m in (less, whole))
    assert {**mine, "seed": None} == {**its, "seed": None}


def test_precision_runs_the_same_steps_in_each_precision(bench, tmp_path, monkeypatch):
    precision = bench("precision")
    monkeypatch.setattr(precision, "movielens_100k", dataset)
    doc, rows = tmp_path / "doc.md", tmp_path / "rows.jsonl"
    doc.write_text(f"before\n{precision.BEGIN}\n{precision.END}\nafter\n")
    monkeypatch.setattr(precision, "BAR", 0.5)
    line = ["FM", "--steps", "3", "--seeds", "0", "--rows", str(rows), "--doc", str(doc)]
    assert precision.main(line) == 0
    written = [json.loads(text) for text in rows.read_text().splitlines()]
    assert [r["precision"] for r in written] == ["float32", "mixed_bfloat16", "mixed_float16"]
    assert {r["steps"] for r in written} == {3}
    assert all(np.isfinite(r["loss"]) for r in written)
    assert "| FM | 1 | 0." in doc.read_text()
    assert doc.read_text().endswith("after\n")
    # A bar that nothing passes; what was run is not run again.
    monkeypatch.setattr(precision, "BAR", -1.0)
    monkeypatch.setattr(precision, "run", lambda *_: pytest.fail("ran again"))
    assert precision.main(line) == 1
    runs = {"float32": {0: 0.7, 1: 0.8}, "mixed_bfloat16": {0: 0.72, 1: 0.79, 2: 0.1}}
    assert precision.difference(runs, "mixed_bfloat16") == pytest.approx(0.005)


def test_a_loss_that_is_not_finite_stops_the_run(bench):
    precision = bench("precision")
    model = CATALOGUE["FM"].build(FEATURES, seed=0)
    model.compile(tf.keras.optimizers.SGD(float("inf")), "binary_crossentropy")
    with pytest.raises(FloatingPointError, match="FM in float32: the loss of step 2 is nan"):
        model.fit(
            dataset().train.select(model.input).batches(400),
            verbose=0,
            callbacks=[precision.Finite("FM in float32")],
        )
