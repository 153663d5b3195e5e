"""What the models are held against on MovieLens 100K: logistic regression, and DIN without history.

    python bench/accuracy_baseline.py

prints test AUC, log loss and GAUC of the logistic regression as JSON. Its features are those of the
ranking task, one-hot (genres multi-hot). The regularisation is the one with the best validation
AUC, and the fit sees the train split alone, as a model's does.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse
import sklearn
from sklearn.linear_model import LogisticRegression

import recops.training
from recops.data import Dataset, Split, movielens_100k
from recops.features import DenseFeature, Feature
from recops.layers.mlp import batch_normalization
from recops.metrics import auc, gauc, log_loss
from recops.models import DIN
from recops.models._parts import Parts
from recops.training import TRAINING, Result, sized
from recops.training.optimizers import made

WITHOUT_HISTORY = "DNN without history"
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


def one_hot(part: Split, features: Sequence) -> scipy.sparse.csr_matrix:
    """[N, ids and numbers]: a 1 for each id of a row; id 0, unknown or padding, has no column."""
    blocks = []
    for feature in features:
        if isinstance(feature, DenseFeature):
            numbers = part.inputs[feature.name].reshape(len(part), -1)
            blocks.append(scipy.sparse.csr_matrix(numbers))
            continue
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


def without_history(features: Sequence[Feature], seed: int, **options: Any) -> Any:
    """DIN less its history: the same hidden layers on the embeddings of all other features.

    `options` are those of DIN; what tells of the attention is ignored.
    """
    given = {name: p.default for name, p in inspect.signature(DIN).parameters.items()} | options
    penalty = {name: given[name] for name in ("l2_embedding", "l2_embedding_rows")}
    parts = Parts("DNN", features, seed=seed, **penalty)
    x = parts.vector()
    if given["use_bn"]:
        x = batch_normalization(given["bn_momentum"], name="normalization")(x)
    deep = parts.hidden(
        x, given["hidden_units"], given["activation"], given["dropout"], given["l2_hidden"]
    )
    return parts.model(parts.logit(deep, use_bias=True, name="deep"))


def train_without_history(seed: int) -> Result:
    """Train it as DIN is trained; the ranking task has the sequence task's rows."""
    settings = TRAINING["DIN"]
    data = movielens_100k()
    model = without_history(sized(data, settings.embedding_dim), seed, **settings.options)
    optimizer = made(settings.optimizer, settings.learning_rate, settings, model)
    model.compile(optimizer, "binary_crossentropy")
    return recops.training.train(
        model,
        data,
        batch_size=settings.batch_size,
        patience=settings.patience,
        seed=seed,
        verbose=0,
    )


if __name__ == "__main__":
    json.dump(fit(movielens_100k()), sys.stdout, indent=2)
    print()
