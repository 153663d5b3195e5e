"""GBDT + LR: scikit-learn's own checks, the regression against scikit-learn's, and its training."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.estimator_checks import parametrize_with_checks

from recops import training
from recops.cli import main
from recops.models import GBDTLR
from recops.training import gbdt_lr
from tests.small_run import dataset

try:
    import lightgbm  # noqa: F401
except ImportError:
    INSTALLED = ["sklearn"]
else:
    INSTALLED = ["sklearn", "lightgbm"]
each_booster = pytest.mark.parametrize("booster", INSTALLED)

_EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": "a row of weight 2 goes as a whole to the "
    "trees or to the regression, two equal rows may be parted",
}


@parametrize_with_checks(
    [GBDTLR(n_estimators=5, booster=name, random_state=0) for name in INSTALLED],
    expected_failed_checks=lambda _: _EXPECTED,
)
def test_scikit_learn_takes_it_for_an_estimator(estimator, check):
    check(estimator)


def crosses(rows=2000, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 4))
    return x, np.where(rng.random(rows) < 1 / (1 + np.exp(-4 * x[:, 0] * x[:, 1])), "yes", "no")


def small(booster, **options):
    return GBDTLR(
        **{"n_estimators": 20, "random_state": 3, "booster": booster, "max_leaves": 8, **options}
    )


@each_booster
def test_the_regression_is_that_of_scikit_learn_on_one_hot_leaves(booster):
    x, y = crosses()
    model = small(booster, C=0.5).fit(x, y)
    rows = model.lr_rows_
    leaves = model.apply(x)
    onehot = OneHotEncoder(handle_unknown="ignore").fit(leaves)
    judge = LogisticRegression(C=0.5, tol=1e-8, max_iter=5000)
    judge.fit(onehot.transform(leaves[rows]), y[rows])
    want = judge.predict_proba(onehot.transform(leaves))
    np.testing.assert_allclose(model.predict_proba(x), want, atol=2e-4)
    assert list(model.classes_) == ["no", "yes"]


@each_booster
def test_trees_and_regression_have_rows_of_their_own(booster):
    x, y = crosses(400)
    model = small(booster, lr_fraction=0.25).fit(x, y)
    grown, judged = model.tree_rows_, model.lr_rows_
    np.testing.assert_array_equal(np.sort(np.concatenate([grown, judged])), np.arange(400))
    assert abs(len(judged) - 100) <= 1
    assert np.mean(y[judged] == "yes") == pytest.approx(np.mean(y == "yes"), abs=0.01)
    # Labels of the regression's rows reach no tree.
    turned = y.copy()
    turned[judged] = np.where(y[judged] == "yes", "no", "yes")
    other = small(booster, lr_fraction=0.25)
    other._parts = lambda *_: [grown, judged]
    np.testing.assert_array_equal(other.fit(x, turned).apply(x), model.apply(x))
    assert roc_auc_score(y == "yes", other.decision_function(x)) < 0.5


@each_booster
def test_it_learns_crosses_that_no_linear_model_can(booster):
    x, y = crosses()
    new, truth = crosses(1000, seed=1)
    model = small(booster).fit(x, y)
    assert roc_auc_score(truth, model.predict_proba(new)[:, 1]) > 0.85
    linear = LogisticRegression().fit(x, y)
    assert roc_auc_score(truth, linear.predict_proba(new)[:, 1]) < 0.6


@each_booster
def test_leaves_are_ids_one_a_tree(booster):
    x, y = crosses()
    model = small(booster).fit(x, y)
    leaves = model.apply(x)
    assert leaves.shape == (2000, 20)
    assert leaves.min() >= 0
    assert leaves.max() < len(model.embedding_)
    # No leaf of a tree has the id of another tree's.
    ranges = [(column.min(), column.max()) for column in leaves.T]
    assert all(high < low for (_, high), (low, _) in itertools.pairwise(ranges))


@pytest.mark.parametrize("passthrough", [False, True])
def test_ids_are_encoded_by_the_labels_of_other_rows(passthrough):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 300, 3000)
    taste = rng.normal(size=300)
    y = rng.random(3000) < 1 / (1 + np.exp(-2 * taste[ids]))
    noise = rng.normal(size=3000)
    x = np.stack([noise, ids], axis=1)
    options = {"categorical_features": [1], "passthrough": passthrough}
    model = small("sklearn", **options).fit(x[:2000], y[:2000])
    plain = small("sklearn").fit(x[:2000], y[:2000])
    auc, without = (
        roc_auc_score(y[2000:], m.predict_proba(x[2000:])[:, 1]) for m in (model, plain)
    )
    assert auc > without + 0.1
    new = np.array([[0.0, 5000.0], [0.0, -1.0]])
    assert np.ptp(model.predict_proba(new)[:, 1]) == 0
    assert (len(model.embedding_) > model._ids.rows) == passthrough
    with pytest.raises(ValueError, match=r"categorical_features must be columns 0..1, got \[2\]"):
        small("sklearn", categorical_features=[2]).fit(x, y)


@each_booster
def test_the_same_seed_is_the_same_model_and_weights_count(booster):
    x, y = crosses(600)
    one, two = (small(booster, subsample=0.7).fit(x, y).predict_proba(x) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    other = small(booster, subsample=0.7, random_state=4).fit(x, y).predict_proba(x)
    assert not np.array_equal(one, other)
    heavy = small(booster).fit(x, y, sample_weight=np.where(y == "yes", 9.0, 1.0))
    assert heavy.predict_proba(x)[:, 1].mean() > one[:, 1].mean() + 0.1


_LOAD = """
import sys
import numpy as np
from recops.models import GBDTLR
model = GBDTLR.load(sys.argv[1] + "/model.pkl")
got = model.predict_proba(np.load(sys.argv[1] + "/x.npy"))
np.testing.assert_array_equal(got, np.load(sys.argv[1] + "/p.npy"))
"""


@each_booster
def test_it_reloads_in_a_fresh_process(booster, tmp_path):
    x, y = crosses(600)
    model = small(booster, categorical_features=[2], passthrough=True).fit(x.round(), y)
    model.save(tmp_path / "model.pkl")
    np.save(tmp_path / "x.npy", x.round())
    np.save(tmp_path / "p.npy", model.predict_proba(x.round()))
    command = [sys.executable, "-c", _LOAD, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (tmp_path / "cut.pkl").write_bytes((tmp_path / "model.pkl").read_bytes()[:100])
    with pytest.raises(ValueError, match=r"cut.pkl is no whole file of GBDTLR.save"):
        GBDTLR.load(tmp_path / "cut.pkl")
    assert clone(model).get_params() == model.get_params()


_WITHOUT = """
import sys
sys.modules["{0}"] = None
import recops
try:
    {1}
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("package", "line"),
    [("sklearn", "recops.models.GBDTLR"), ("sklearn.base", "from recops.models import GBDTLR")],
)
def test_a_missing_package_is_one_sentence(package, line):
    command = [sys.executable, "-c", _WITHOUT.format(package, line)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert done.stdout.startswith("GBDTLR: needs scikit-learn")
    assert "pip install 'recops[gbdt]'" in done.stdout


def test_without_lightgbm_scikit_learn_grows_the_trees(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    x, y = crosses(300)
    assert small("auto").fit(x, y).booster_ == "sklearn"
    with pytest.raises(ImportError, match=r"needs the package lightgbm: pip install 'recops\[gbdt"):
        small("lightgbm").fit(x, y)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"booster": "xgb"}, "booster must be one of auto, lightgbm, sklearn, got 'xgb'"),
        ({"lr_fraction": 1.0}, "lr_fraction must be between 0 and 1, got 1.0"),
        ({"C": 0}, "C must be above 0, got 0"),
    ],
)
def test_wrong_options(options, said):
    with pytest.raises(ValueError, match=f"GBDTLR: {said}"):
        small(**{"booster": "sklearn", **options}).fit(*crosses(50))


def test_rows_of_one_class_or_too_few():
    x, _ = crosses(20)
    with pytest.raises(ValueError, match="needs rows of two classes, got one class"):
        small("sklearn").fit(x, np.ones(20))
    with pytest.raises(ValueError, match="needs two rows of each class"):
        small("sklearn").fit(x, np.eye(20)[0])


def test_recops_train_writes_a_run_that_reloads(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(training.DATA, "movielens-100k", dataset)
    out = tmp_path / "run"
    assert main(["train", "GBDTLR", "--seed", "2", "--out", str(out)]) == 0
    assert "test: auc" in capsys.readouterr().out
    written = json.loads((out / "history.json").read_text())
    assert 0 < written["test"]["auc"] < 1
    assert written["options"]["seed"] == 2
    model, whole = GBDTLR.load(out / "model.pkl"), dataset()
    assert gbdt_lr.scores(model, whole, whole.test) == written["test"]
    assert main(["train", "GBDTLR", "--out", str(out)]) == 2
    assert "already holds a run" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flag", ["--epochs 3", "--batch-size 2", "--mixed-precision mixed_float16", "--resume"]
)
def test_options_of_steps_are_refused(flag, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(training.DATA, "movielens-100k", dataset)
    line = ["train", "GBDTLR", "--out", str(tmp_path / "run"), *flag.split()]
    assert main(line) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"GBDTLR is fitted in one go, without epochs and steps, and takes no {line[4]}" in said
    assert not (tmp_path / "run").exists()
