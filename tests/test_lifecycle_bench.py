"""The check of saved models sees what has changed on its way, and says so by its status."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from recops import training
from recops.models import CATALOGUE, ESTIMATORS
from tests.small_run import dataset

BENCH = Path(__file__).resolve().parent.parent / "bench"


@pytest.fixture
def lifecycle(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    yield __import__("lifecycle")
    sys.modules.pop("lifecycle", None)


@pytest.mark.parametrize(
    ("loaded", "apart"),
    [
        ({"output": [1.0, 4.0]}, 0),
        ({"output": [1.0, 4.4]}, 0.1),
        ({"output": [1.0, np.nan]}, np.inf),
        ({"output": [1.0]}, np.inf),
        ({"users": [1.0, 4.0]}, np.inf),
    ],
)
def test_differences_are_seen(lifecycle, tmp_path, loaded, apart):
    np.savez(tmp_path / "trained.npz", output=np.array([1.0, 4.0]))
    np.savez(tmp_path / "loaded.npz", **{key: np.array(value) for key, value in loaded.items()})
    assert lifecycle.difference(tmp_path) == pytest.approx(apart)


def test_every_model_has_a_line_and_a_change_is_the_status(lifecycle, monkeypatch, capsys):
    asked = []

    def check(name, precision, *_):
        asked.append((name, precision))
        return f"{precision}: said", (name, precision) != ("DIN", "mixed_bfloat16")

    monkeypatch.setattr(lifecycle, "check", check)
    assert lifecycle.main([]) == 1
    said = capsys.readouterr()
    assert [line.split()[1] for line in said.out.splitlines()] == [*CATALOGUE, *ESTIMATORS]
    assert [line.split()[1] for line in said.out.splitlines() if line.startswith("CHANGED")] == [
        "DIN"
    ]
    assert said.err.endswith(": DIN\n")
    assert ("DIN", "float32") in asked
    assert lifecycle.main(["DIN", "--precision", "float32"]) == 0
    assert ("GBDTLR", "trees") in asked


@pytest.mark.parametrize("name", ["FM", "YoutubeDNNRetrieval"])
def test_both_stages_predict_the_same(lifecycle, monkeypatch, tmp_path, name):
    monkeypatch.setitem(training.DATA, "movielens-100k", dataset)
    monkeypatch.setattr(training, "train_named", training.train_named)
    assert lifecycle.train(name, "float32", "movielens-100k", 1, tmp_path / "run") == 0
    assert lifecycle.load(name, "movielens-100k", tmp_path / "run") == 0
    assert lifecycle.difference(tmp_path / "run") == 0
    # Other weights are another model.
    for path in (tmp_path / "run").glob("loaded.npz"):
        with np.load(path) as found:
            np.savez(path, **{key: values + 1e-3 for key, values in dict(found).items()})
    assert lifecycle.difference(tmp_path / "run") > lifecycle.TOLERANCE
