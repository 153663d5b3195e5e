"""Test AUC, log loss and GAUC of logistic regression on MovieLens 100K, as JSON.

    python bench/accuracy_baseline.py

The features are those of the ranking task, one-hot (genres multi-hot). The regularisation is the
one with the best validation AUC, and the fit sees the train split alone, as a model's does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import numpy as np
import scipy.sparse
import sklearn
from sklearn.linear_model import LogisticRegression

from recops.data import Dataset, Split, movielens_100k
from recops.metrics import auc, gauc, log_loss

STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


def one_hot(part: Split, features: Sequence) -> scipy.sparse.csr_matrix:
    """[N, all ids]: a 1 for each id of a row; id 0, unknown or padding, has no column."""
    blocks = []
    for feature in features:
        ids = part.inputs[feature.name].reshape(len(part), -1)
        rows = np.repeat(np.arange(len(part)), ids.shape[1])[ids.ravel() > 0]
        columns = ids.ravel()[ids.ravel() > 0] - 1
        shape = (len(part), feature.vocabulary_size)
        blocks.append(scipy.sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape))
    return scipy.sparse.hstack(blocks, format="csr")


def scores(part: Split, predictions: np.ndarray) -> dict[str, float]:
    """The three figures that the trained models are judged by."""
    return {
        "auc": round(auc(part.labels, predictions), 4),
        "logloss": round(log_loss(part.labels, predictions), 4),
        "gauc": round(gauc(part.labels, predictions, part.groups), 4),
    }


def fit(data: Dataset) -> dict:
    """Logistic regressions over STRENGTHS; the figures of the one that validation prefers."""
    train = one_hot(data.train, data.features)
    validation = one_hot(data.validation, data.features)
    clicks = data.train.labels.ravel()
    models = {c: LogisticRegression(C=c, max_iter=3000).fit(train, clicks) for c in STRENGTHS}
    valid = {
        c: scores(data.validation, model.predict_proba(validation)[:, 1])
        for c, model in models.items()
    }
    best = max(valid, key=lambda c: valid[c]["auc"])
    test = one_hot(data.test, data.features)
    return {
        "model": "logistic regression",
        "data": "movielens-100k, ranking",
        "C": best,
        "test": scores(data.test, models[best].predict_proba(test)[:, 1]),
        "validation": valid[best],
        "validation_auc_by_C": {str(c): figures["auc"] for c, figures in valid.items()},
        "rows": {
            "train": len(data.train),
            "validation": len(data.validation),
            "test": len(data.test),
        },
        "columns": train.shape[1],
        "scikit-learn": sklearn.__version__,
    }


if __name__ == "__main__":
    json.dump(fit(movielens_100k()), sys.stdout, indent=2)
    print()
