"""The accuracy and precision runs: what stands in their tables, and when they fail."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from recops.features import SequenceFeature
from recops.models import CATALOGUE, DIN, ESTIMATORS
from recops.training import TRAINING
from tests.models.planted import FEATURES
from tests.small_run import dataset

BENCH = Path(__file__).resolve().parent.parent / "bench"
SEQUENCES = [*FEATURES, SequenceFeature("clicks", 12, 3, 4, target="item")]
NAMES = ("accuracy", "accuracy_baseline", "accuracy_peers", "accuracy_tables", "precision")


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


def test_models_of_recall_have_figures_of_lists_beside_popularity(bench):
    found = {"hit_rate@10": 0.4, "ndcg@10": 0.2, "hit_rate@50": 0.7}
    popular = {"hit_rate@10": 0.1, "ndcg@10": 0.05}
    rows = [
        row("FM", 0.77, seed=0),
        {"model": "NeuralCF", "task": "leave_one_out", "test": found, "baseline": popular},
    ]
    clicks, lists = bench("accuracy").table(rows).split("\n\n")
    assert "NeuralCF" not in clicks
    assert lists.splitlines() == [
        "| model | task | runs | HR@10 | NDCG@10 | popularity HR@10 | popularity NDCG@10 |",
        "|---|---|---|---|---|---|---|",
        "| NeuralCF | leave_one_out | 1 | 0.4000 | 0.2000 | 0.1000 | 0.0500 |",
    ]


def test_a_peer_is_a_column_where_it_has_rows_and_other_data_has_a_table_of_its_own(bench):
    rows = [
        row("FM", 0.77, seed=0),
        row("DeepFM", 0.78, seed=0),
        row("DeepFM", 0.76, seed=0, peer="DeepCTR"),
        row("DeepFM", 0.60, seed=0, data="libfm:mine"),
    ]
    table = bench("accuracy").table
    assert "DeepCTR" not in table(rows[:2])
    lines = table(rows).splitlines()
    assert lines[0].endswith("| GAUC | DeepCTR AUC |")
    assert [line.split(" | ")[0::6] for line in lines[2:]] == [
        ["| DeepFM", "0.7600 |"],
        ["| FM", "– |"],
    ]
    assert [line.split(" | ")[3] for line in table(rows, "libfm:mine").splitlines()[2:]] == [
        "0.6000"
    ]


def test_means_and_deviations_are_numpys(bench):
    aucs = [0.7, 0.75, 0.71]
    (group,) = bench("accuracy").groups(
        [row("FM", auc, seed=i, parameters=7) for i, auc in enumerate(aucs)], "movielens-100k"
    )
    assert group["test"]["auc"]["mean"] == pytest.approx(np.mean(aucs))
    assert group["test"]["auc"]["std"] == pytest.approx(np.std(aucs, ddof=1))
    assert (group["runs"], group["parameters"], group["seconds_per_epoch"]) == (3, 7, None)


def test_the_readme_has_every_model_of_the_catalogue(bench):
    rows = [
        row("FM", 0.77, seed=0, seconds_per_epoch=1.26, parameters=12345),
        row("FM", 0.5, seed=0, peer="DeepCTR", seconds_per_epoch=9.0, parameters=1),
        {"model": "NeuralCF", "seed": 0, "test": {"hit_rate@10": 0.4, "ndcg@10": 0.2}},
    ]
    lines = bench("accuracy").readme(rows).splitlines()[2:]
    assert [line.split(" | ")[0] for line in lines] == [
        f"| {name}" for name in (*CATALOGUE, *ESTIMATORS)
    ]
    by_name = {line.split(" | ")[0][2:]: line.split(" | ")[2:] for line in lines}
    assert by_name["FM"] == ["0.7700", "1.3", "12,345 |"]
    assert by_name["NeuralCF"] == ["HR@10 0.4000", "–", "– |"]
    assert by_name["DIN"] == ["–", "–", "– |"]


def test_accuracy_goes_on_where_it_was_stopped(bench, tmp_path, monkeypatch):
    accuracy = bench("accuracy")
    monkeypatch.setitem(sys.modules["recops.training"].DATA, "movielens-100k", dataset)
    monkeypatch.setattr(accuracy.accuracy_baseline, "fit", lambda _: {"test": row("", 0.6)["test"]})
    doc, rows, made = tmp_path / "doc.md", tmp_path / "rows.jsonl", tmp_path / "made.json"
    doc.write_text(f"before\n{accuracy.BEGIN}\n{accuracy.END}\nafter\n")
    kept = row("FM", 0.9, seed=0)
    # A line cut off by a kill, which is trained again.
    rows.write_text(json.dumps(kept) + "\n" + json.dumps(row("FM", 0.8, seed=1))[:30])
    line = ["FM", "--seeds", "0", "1", "--rows", str(rows), "--doc", str(doc), "--json", str(made)]
    accuracy.main(line)
    written = accuracy.read(rows)
    assert [(r["model"], r["seed"]) for r in written] == [
        ("FM", 0),
        ("logistic regression", None),
        ("FM", 1),
    ]
    assert written[0] == kept
    assert written[2]["seconds_per_epoch"] > 0
    assert written[2]["parameters"] > 100
    assert set(written[2]["test"]) >= {"auc", "logloss", "gauc"}
    assert "| FM | ranking | 2 |" in doc.read_text()
    assert {g["model"] for g in json.loads(made.read_text())} == {"FM", "logistic regression"}
    monkeypatch.setattr(accuracy, "train_named", lambda *_, **__: pytest.fail("ran again"))
    accuracy.main(line)
    # The same seed on other data is another run.
    assert accuracy.done(rows, "libfm:mine") == set()
    readme = tmp_path / "README.md"
    readme.write_text(f"{accuracy.README_BEGIN}\n{accuracy.README_END}\n")
    accuracy.main(["--rows", str(rows), "--readme", str(readme)])
    assert "| FM | Rendle" in readme.read_text()


def test_another_optimizer_has_lines_and_a_table_of_its_own(bench, tmp_path, monkeypatch):
    accuracy = bench("accuracy")
    monkeypatch.setitem(sys.modules["recops.training"].DATA, "movielens-100k", dataset)
    monkeypatch.setattr(accuracy.accuracy_baseline, "fit", lambda _: {"test": row("", 0.6)["test"]})
    doc, rows = tmp_path / "doc.md", tmp_path / "rows.jsonl"
    both = (accuracy.BEGIN, accuracy.END, accuracy.OPTIMIZERS_BEGIN, accuracy.OPTIMIZERS_END)
    doc.write_text("\n".join(both) + "\n")
    rows.write_text(json.dumps(row("FM", 0.9, seed=0)) + "\n")
    line = ["FM", "--seeds", "0", "--rows", str(rows), "--doc", str(doc), "--optimizer"]
    accuracy.main([*line, "adam"])
    written = [r for r in accuracy.read(rows) if r["model"] == "FM"]
    assert [r.get("optimizer") for r in written] == [None, "adam"]
    table, beside = doc.read_text().split(accuracy.OPTIMIZERS_BEGIN)
    assert "| FM | ranking | 1 | 0.9000 |" in table
    assert "| FM | lazy_adam | 1 | 0.9000 | 0.5000 |" in beside
    assert f"| FM | adam | 1 | {written[1]['test']['auc']:.4f} |" in beside
    # A model's own optimizer by its name is no other one.
    monkeypatch.setattr(accuracy, "train_named", lambda *_, **__: pytest.fail("ran again"))
    accuracy.main([*line, "lazy_adam"])
    with pytest.raises(SystemExit):
        accuracy.main(["GBDTLR", "--optimizer", "adam", "--rows", str(rows), "--doc", str(doc)])


def test_trees_have_a_row_without_parameters(bench, tmp_path, monkeypatch):
    accuracy = bench("accuracy")
    monkeypatch.setitem(sys.modules["recops.training"].DATA, "movielens-100k", dataset)
    monkeypatch.setattr(accuracy.accuracy_baseline, "fit", lambda _: {"test": row("", 0.6)["test"]})
    assert "GBDTLR" in accuracy.trainable("movielens-100k")
    accuracy.train(["GBDTLR"], [3], tmp_path / "rows.jsonl")
    rows = accuracy.read(tmp_path / "rows.jsonl")
    assert rows[-1]["model"] == "GBDTLR"
    assert 0 < rows[-1]["test"]["auc"] <= 1
    assert "parameters" not in rows[-1]
    assert "| GBDTLR | He et al." in accuracy.readme(rows)


def test_the_seconds_of_an_epoch_come_into_all_lines_of_a_model(bench, tmp_path, monkeypatch):
    accuracy = bench("accuracy")
    monkeypatch.setitem(sys.modules["recops.training"].DATA, "movielens-100k", dataset)
    rows = tmp_path / "rows.jsonl"
    kept = [row("FM", 0.7, seed=0), row("FM", 0.7, seed=0, peer="other"), row("FFM", 0.7, seed=0)]
    rows.write_text("".join(json.dumps(line) + "\n" for line in kept))
    accuracy.main(["FM", "GBDTLR", "--time", "--rows", str(rows)])
    timed, *others = accuracy.read(rows)
    assert timed.pop("seconds_per_epoch") > 0
    assert timed.pop("parameters") > 0
    assert [timed, *others] == kept


def test_data_of_ones_own_trains_the_models_whose_task_it_has(bench, tmp_path):
    rng = np.random.default_rng(0)
    lines = [
        f"{a % 2 ^ b % 2} {a}:1 {b}:1"
        for a, b in zip(rng.integers(0, 6, 300), rng.integers(6, 12, 300))
    ]
    path = tmp_path / "mine.libfm"
    path.write_text("\n".join(lines) + "\n")
    accuracy = bench("accuracy")
    spec = f"libfm:{path}"
    names = accuracy.trainable(spec)
    assert "FM" in names
    assert not {"DIN", "NeuralCF"} & set(names)
    doc, rows = tmp_path / "doc.md", tmp_path / "rows.jsonl"
    doc.write_text("untouched")
    accuracy.main(
        ["FM", "--data", spec, "--seeds", "3", "--rows", str(rows), "--doc", str(doc)]
    )  # fmt: skip
    assert [(r["model"], r["data"]) for r in accuracy.read(rows)] == [
        ("logistic regression", spec),
        ("FM", spec),
    ]
    assert doc.read_text() == "untouched"


def test_a_peer_gets_the_splits_and_is_judged_as_a_model_is(bench, tmp_path, monkeypatch):
    peers = bench("accuracy_peers")
    monkeypatch.setitem(sys.modules["recops.training"].DATA, "movielens-100k", dataset)
    script = tmp_path / "peer.py"
    script.write_text(
        "import json, sys\n"
        "import numpy as np\n"
        "found = dict(np.load(sys.argv[1]))\n"
        "asked = json.loads(str(found['asked']))\n"
        "assert found['train/labels'].shape == (1600,), found['train/labels'].shape\n"
        "assert found['test/words'].shape == (90, 3)\n"
        "assert [f['name'] for f in asked['features']][:2] == ['user', 'item']\n"
        "assert asked['model'] == 'xDeepFM' and asked['seed'] == 4\n"
        "reported = np.array(json.dumps({'parameters': 5}))\n"
        "predictions = np.clip(found['test/labels'], 0.1, 0.9)\n"
        "np.savez(sys.argv[2], predictions=predictions, reported=reported)\n"
    )
    peer = peers.Peer("Other", str(script), ".venv", {"XDeepFM": "xDeepFM"})
    monkeypatch.setattr(peers.Peer, "python", sys.executable)
    found = peers.train(peer, "XDeepFM", "movielens-100k", 4)
    assert found["parameters"] == 5
    assert found["test"]["auc"] == 1.0
    assert found["test"]["logloss"] == pytest.approx(-np.log(0.9), rel=1e-5)


def test_a_peer_of_a_model_with_histories_gets_them(bench, tmp_path, monkeypatch):
    peers = bench("accuracy_peers")
    monkeypatch.setitem(sys.modules["recops.training"].DATA, "movielens-100k", dataset)
    script = tmp_path / "peer.py"
    script.write_text(
        "import json, sys\n"
        "import numpy as np\n"
        "found = dict(np.load(sys.argv[1]))\n"
        "asked = json.loads(str(found['asked']))\n"
        "(clicks,) = (f for f in asked['features'] if f.get('target') and not f['sessions'])\n"
        "assert found['test/' + clicks['name']].shape == (90, clicks['max_length'])\n"
        "assert asked['hidden_units'] == [200, 80]\n"
        "reported = np.array(json.dumps({'parameters': 5}))\n"
        "np.savez(sys.argv[2], predictions=found['test/labels'], reported=reported)\n"
    )
    peer = peers.Peer("Other", str(script), ".venv", {"DIN": "DIN"})
    monkeypatch.setattr(peers.Peer, "python", sys.executable)
    assert peers.train(peer, "DIN", "movielens-100k", 4)["parameters"] == 5


def test_models_of_peers_are_models_of_recops_and_their_environments_are_made(bench):
    makefile = (BENCH.parent / "Makefile").read_text()
    for peer in bench("accuracy_peers").PEERS:
        assert (BENCH / "peers" / peer.script).exists()
        assert f":= {peer.environment}\n" in makefile
        assert set(peer.models) <= set(CATALOGUE)


def test_kept_rows_make_the_tables_in_the_document(bench):
    for name, document in (("accuracy", "accuracy"), ("precision", "mixed_precision")):
        text = (BENCH.parent / "docs" / f"{document}.md").read_text()
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
    assert "| FM | auc | 2048 | 1 | 0." in doc.read_text()
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
