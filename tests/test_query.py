"""Runs of models that find items: their figures, their index, and the questions it answers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from recops import training
from recops.cli import main
from recops.data import Dataset, Split
from recops.retrieval import Index
from recops.training import evaluation
from tests.models.planted_retrieval import FEATURES, retrieval
from tests.small_run import dataset, figures

LINE = "train YoutubeDNNRetrieval --batch-size 100 --learning-rate 0.02 --seed 1 --jit off"


def code_of(line):
    try:
        return main(line.split())
    except SystemExit as stopped:
        return stopped.code


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setitem(training.DATA, "movielens-100k", dataset)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setitem(training.DATA, "movielens-100k", dataset)
    folder = tmp_path_factory.mktemp("runs") / "youtube"
    assert code_of(f"{LINE} --epochs 4 --out {folder}") == 0
    patch.undo()
    return folder


def rows(said):
    return [line.split() for line in said.splitlines()[1:]]


def test_a_run_says_its_figures_beside_popularity(run, tmp_path, capsys):
    written = json.loads((run / "history.json").read_text())
    names = ["hit_rate@10", "ndcg@10", "hit_rate@50", "ndcg@50"]
    assert list(written["test"]) == names
    best = max(epoch["validation_hit_rate@10"] for epoch in written["epochs"])
    assert written["epochs"][written["best_epoch"] - 1]["validation_hit_rate@10"] == best
    assert code_of(f"{LINE} --epochs 4 --out {run} --resume") == 0
    said = capsys.readouterr().out
    for start in ("test: ", "popularity: "):
        (line,) = [line for line in said.splitlines() if line.startswith(start)]
        assert line.split()[1::2] == names
    assert "validation hit_rate@10" in said


def test_a_resumed_run_is_an_unbroken_one(run, tmp_path):
    options = {"batch_size": 100, "learning_rate": 0.02, "seed": 1, "jit": "off", "verbose": 0}
    name = "YoutubeDNNRetrieval"
    training.train_named(name, epochs=2, out=tmp_path / "run", **options)
    again = training.train_named(name, epochs=4, out=tmp_path / "run", resume=True, **options)
    whole = json.loads((run / "history.json").read_text())
    kept = [{k: epoch[k] for k in again.epochs[0]} for epoch in whole["epochs"]]
    assert figures(again) == [{k: e[k] for k in figures(again)[0]} for e in kept]
    assert again.criterion == "hit_rate@10"
    assert again.validation == max(e["validation_hit_rate@10"] for e in kept)
    assert again.baseline


def test_items_for_a_user(run, capsys):
    assert code_of(f"query {run} --user 503 -k 6") == 0
    found = rows(capsys.readouterr().out)
    assert [row[0] for row in found] == list("123456")
    scores = [float(row[2]) for row in found]
    assert scores == sorted(scores, reverse=True)
    serving = retrieval().serving
    watched = serving.inputs["watched"][3]
    # Items are named as in the data, 100 + id; most are of the half that the user watches.
    items = [int(row[1]) - 100 for row in found]
    assert sum(item % 2 == watched[0] % 2 for item in items) >= 5

    assert code_of(f"query {run} --user 503 -k 20 --unseen") == 0
    rest = [int(row[1]) - 100 for row in rows(capsys.readouterr().out)]
    assert set(rest) == set(range(1, 21)) - set(watched.tolist())


def test_items_like_an_item(run, capsys):
    for where in (run, run / "index.npz"):
        assert code_of(f"query {where} --item 107 -k 5") == 0
        items = [int(row[1]) for row in rows(capsys.readouterr().out)]
        assert len(items) == 5
        assert 107 not in items
        assert sum(item % 2 for item in items) >= 4


MISTAKES = {
    "query": "DIR",
    "query RUN": "one of the arguments --user --item is required",
    "query RUN --user 503 --item 101": "not allowed with",
    "query RUN --user x": "--user: expected a whole number",
    "query RUN --user 9": "movielens-100k has no user 9; its 30 users are among 500 to 529",
    "query RUN --item 9": "has no item 9 among its 20 items",
    "query RUN --item 101 -k 0": "-k: expected a whole number of 1 or more, got '0'",
    "query RUN/index.npz --user 503": "a user needs the model beside the index",
    "query nowhere --user 503": "nowhere has no index (index.npz)",
    "query RUN/history.json --item 101": "is no saved index",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line_and_code_2(line, run, capsys):
    assert code_of(line.replace("RUN", str(run))) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert MISTAKES[line] in said.err


def test_leave_one_out_beats_popularity():
    result = training.train_named(
        "NeuralCF", epochs=3, batch_size=64, learning_rate=0.02, verbose=0, jit="off"
    )
    assert list(result.test) == ["hit_rate@10", "ndcg@10"]
    # Ten candidates: the hit rate is 1 for everyone.
    assert result.test["ndcg@10"] > result.baseline["ndcg@10"] + 0.1


class Fixed:
    """A model whose users and items are what it is given."""

    def __init__(self, users, items):
        self.users, self.items = users, items
        self.user_model = self

    def predict(self, batches, verbose):
        return self.users

    def item_embeddings(self):
        return self.items


def test_recall_by_hand(monkeypatch):
    data = retrieval()
    item = np.array([3, 1, 0, 2], np.int32)
    seen = np.array([[1, 2], [0, 0], [0, 0], [0, 0]], np.int32)
    inputs = {name: values[:4] for name, values in data.test.inputs.items()}
    part = Split({**inputs, "item": item, "seen_item": seen}, np.ones(4), np.arange(4))
    # Item 1 is best, then 2, 3 and so on; padding would be best of all.
    model = Fixed(np.ones((4, 1), "float32"), np.arange(21, 0, -1, dtype="float32")[:, None])
    monkeypatch.setattr(evaluation, "KS", (1, 2))
    want = {
        "hit_rate@1": 2 / 4,
        "ndcg@1": 2 / 4,
        "hit_rate@2": 3 / 4,
        "ndcg@2": (2 + 1 / np.log2(3)) / 4,
    }
    for block in (1000, 21 * 3):
        monkeypatch.setattr(evaluation, "_BLOCK_SCORES", block)
        assert evaluation.recall(model, data, part) == pytest.approx(want)
    counts = np.bincount(data.train.inputs["item"], minlength=21)
    first = int(counts.argmax())
    popular = Split({**inputs, "item": np.full(4, first)}, np.ones(4), np.arange(4))
    popular = Split(
        {k: v for k, v in popular.inputs.items() if k != "seen_item"}, np.ones(4), [1] * 4
    )
    assert evaluation.recall_of_popularity(data, popular)["hit_rate@1"] == 1


def test_lists_of_other_sizes_and_lost_predictions_are_refused():
    part = Split({"item": np.ones(5)[:].astype(int)}, [1, 0, 1, 0, 0], [1, 1, 2, 2, 3])
    with pytest.raises(ValueError, match="groups of one size"):
        evaluation._left_out(part, np.arange(5.0))
    data = retrieval()
    lost = Fixed(np.full((90, 1), np.nan), np.ones((21, 1)))
    with pytest.raises(ValueError, match="90 of 90 predictions are not finite"):
        evaluation.recall(lost, data, data.test)
    other = Dataset(data.train, data.validation, data.test, FEATURES, task="guess")
    with pytest.raises(ValueError, match="one of ranking, retrieval, next_click, leave_one_out"):
        evaluation.judgement(other)


def test_the_index_holds_the_items_by_their_names(run):
    index = Index.load(run / "index.npz")
    assert index.ids.tolist() == list(range(101, 121))
    assert index.metric == "inner_product"
