"""Training of GBDT + LR on a data set: one fit, and a folder like that of other runs."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recops import metrics
from recops.data import Dataset, Split
from recops.features import DenseFeature, Feature, SequenceFeature, SparseFeature
from recops.training.runs import Run, check_vacant

MODEL = "model.pkl"
# Chosen by validation AUC on MovieLens 100K: 0.7625, 0.001 less with nine tenths of the rows for
# the regression and 0.005 less with seven. What a user likes shows in a hundred rows or so, and
# each that grows trees is lost to the regression.
OPTIONS: dict[str, Any] = {
    "n_estimators": 60,
    "max_leaves": 4,
    "lr_fraction": 0.95,
    "C": 0.6,
    "passthrough": True,
}
# What a training in epochs and steps takes, and this one does not.
_IN_STEPS = (
    "epochs",
    "batch_size",
    "learning_rate",
    "optimizer",
    "patience",
    "backend",
    "precision",
    "jit",
)
# Lists of more values than this are read by their length alone.
_MOST_COLUMNS = 64


def matrix(features: Sequence[Feature], inputs: Mapping[str, Any]) -> tuple[np.ndarray, list[int]]:
    """Inputs of a data set as the columns that trees read, and which of these are no numbers.

    Args:
      features: of the data set.
      inputs: its arrays by feature name, as those of a Split.

    Returns: [N, n] float64 and the columns for `categorical_features` of `GBDTLR`. An id is one
    column; numbers are theirs; of a padded list each value has a column that counts it, or, where
    there are more than 64 of them (as in histories), one column counts them all.

    Example:
      >>> features = [SparseFeature("item", 9), SequenceFeature("genres", 3, max_length=2)]
      >>> x, ids = matrix(features, {"item": [7, 5], "genres": [[1, 3], [2, 0]]})
      >>> x.tolist(), ids
      ([[7.0, 1.0, 0.0, 1.0], [5.0, 0.0, 1.0, 0.0]], [0, 1, 2, 3])
    """
    columns: list[np.ndarray] = []
    ids: list[int] = []
    for feature in features:
        values = np.asarray(inputs[feature.name])
        rows = values.reshape(len(values), -1)
        before = sum(column.shape[1] for column in columns)
        if isinstance(feature, SparseFeature):
            ids.append(before)
        elif isinstance(feature, SequenceFeature):
            if feature.vocabulary_size > _MOST_COLUMNS:
                rows = np.count_nonzero(rows, axis=1)[:, None]
            else:
                kinds = np.arange(1, feature.vocabulary_size + 1)
                rows = (rows[:, :, None] == kinds).sum(axis=1)
                ids.extend(range(before, before + len(kinds)))
        else:
            assert isinstance(feature, DenseFeature)
        columns.append(rows.astype(np.float64))
    return np.concatenate(columns, axis=1), ids


def train(
    data: Dataset, *, seed: int = 0, options: Mapping[str, Any], out: Path | None = None
) -> tuple[Any, dict[str, Any], dict[str, float]]:
    """Fit GBDTLR on the train split.

    Args:
      data: of clicks; its features as `matrix` reads them.
      seed: of the split into parts and of the trees.
      options: plain values for the history, such as the names of model and data.
      out: folder for `model.pkl` and `history.json`; None keeps none.

    Returns: the estimator, the record of its one epoch, and its figures on the test split.

    Raises: ImportError without scikit-learn; ValueError where `out` holds a run; OSError where it
    cannot be written, before any training.
    """
    from recops.models import GBDTLR

    x, ids = matrix(data.features, data.train.inputs)
    model = GBDTLR(categorical_features=ids, random_state=seed, **OPTIONS)
    rows = [len(data.train), len(data.validation), len(data.test)]
    content = {
        "options": {**options, "seed": seed, "rows": rows, **OPTIONS},
        "epochs": [],
        "test": {},
    }
    run = None if out is None else _begun(out, content)
    begun = time.perf_counter()
    model.fit(x, data.train.labels[:, 0])
    seconds = time.perf_counter() - begun
    validation = scores(model, data, data.validation)
    record = {
        "epoch": 1,
        **{f"validation_{name}": value for name, value in validation.items()},
        "seconds": seconds,
        "samples_per_second": len(data.train) / seconds,
        "ms_per_step": 1e3 * seconds,
    }
    test = scores(model, data, data.test)
    if run is not None:
        model.save(run.folder / MODEL)
        run.epochs.append(record)
        run.test = test
        run.write()
    return model, record, test


def check_options(name: str, resume: bool, **given: Any) -> None:
    """Raise ValueError for an option that makes no sense for trees: each is None or False."""
    asked = [option for option in _IN_STEPS if given.get(option) is not None]
    if resume:
        asked.append("resume")
    if asked:
        flag = {"precision": "mixed-precision"}.get(asked[0], asked[0].replace("_", "-"))
        raise ValueError(
            f"train: {name} is fitted in one go, without epochs and steps, and takes no --{flag} "
            f"({asked[0]}=); leave it out"
        )


def scores(model: Any, data: Dataset, part: Split) -> dict[str, float]:
    """Exact auc, logloss and gauc of an estimator on a split."""
    predictions = model.predict_proba(matrix(data.features, part.inputs)[0])[:, 1]
    return {
        "auc": metrics.auc(part.labels, predictions),
        "logloss": metrics.log_loss(part.labels, predictions),
        "gauc": metrics.gauc(part.labels, predictions, part.groups),
    }


def _begun(out: str | os.PathLike[str], content: dict[str, Any]) -> Run:
    folder = Path(out).expanduser()
    check_vacant(folder)
    run = Run(folder, content)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Found out now, before training.
        (folder / ".writing").touch()
        (folder / ".writing").unlink()
    except OSError as error:
        raise OSError(
            f"train: the folder {folder} cannot be written ({error.strerror}); choose another"
        ) from error
    return run
