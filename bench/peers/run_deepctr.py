"""Train a model of DeepCTR on exported splits: run_deepctr.py SPLITS.npz OUT.npz

Run by bench/accuracy_peers.py with the Python of .venv-peers, which has DeepCTR and no recops.
"""

from __future__ import annotations

import inspect
import json
import sys
import time
from pathlib import Path
from typing import Any

import deepctr
import numpy as np
import tensorflow as tf
from deepctr import models
from deepctr.feature_column import DenseFeat, SparseFeat, VarLenSparseFeat
from sklearn.metrics import roc_auc_score


def column(feature: dict[str, Any]) -> Any:
    """A feature of recops in DeepCTR's words; both have id 0 for padding."""
    name = feature["name"]
    if feature["class_name"] == "DenseFeature":
        return DenseFeat(name, feature["dimension"])
    table = SparseFeat(name, feature["vocabulary_size"] + 1, feature["embedding_dim"])
    if feature["class_name"] == "SparseFeature":
        return table
    return VarLenSparseFeat(table, feature["max_length"], feature["combiner"])


def build(asked: dict[str, Any]) -> Any:
    """The model with as many of the settings as it takes."""
    columns = [column(feature) for feature in asked["features"]]
    make = getattr(models, asked["model"])
    known = inspect.signature(make).parameters
    wanted = {
        "dnn_hidden_units": tuple(asked["hidden_units"]),
        "l2_reg_embedding": asked["l2_embedding"],
        "l2_reg_linear": 0,
        "dnn_dropout": asked["dropout"],
        "afm_dropout": asked["dropout"],
        "bi_dropout": asked["dropout"],
        "seed": asked["seed"],
    }
    options = {name: value for name, value in wanted.items() if name in known}
    # PNN has no first order, and so one list of columns.
    lists = (columns,) if asked["model"] == "PNN" else (columns, columns)
    return make(*lists, **options)


def main(source: Path, out: Path) -> None:
    """Train until the validation AUC no longer rises; predict the test split at the best epoch."""
    with np.load(source) as found:
        arrays = dict(found)
    asked = json.loads(str(arrays.pop("asked")))
    tf.keras.utils.set_random_seed(asked["seed"])
    parts: dict[str, dict[str, np.ndarray]] = {"train": {}, "validation": {}, "test": {}}
    for key, values in arrays.items():
        part, name = key.split("/", 1)
        parts[part][name] = values
    labels = {part: values.pop("labels") for part, values in parts.items()}
    model = build(asked)
    model.compile(tf.keras.optimizers.Adam(asked["learning_rate"]), "binary_crossentropy")
    best, weights, since, aucs, seconds = 0.0, None, 0, [], []
    for _ in range(asked["epochs"]):
        begun = time.perf_counter()
        model.fit(parts["train"], labels["train"], batch_size=asked["batch_size"], verbose=0)
        seconds.append(time.perf_counter() - begun)
        predicted = model.predict(parts["validation"], batch_size=4096, verbose=0)
        aucs.append(float(roc_auc_score(labels["validation"], predicted.ravel())))
        since += 1
        if aucs[-1] > best:
            best, weights, since = aucs[-1], model.get_weights(), 0
        if since >= asked["patience"]:
            break
    model.set_weights(weights)
    reported = {
        "validation_auc": best,
        "best_epoch": aucs.index(best) + 1,
        "epochs": len(aucs),
        "seconds_per_epoch": float(np.median(seconds)),
        "parameters": model.count_params(),
        "versions": {"deepctr": deepctr.__version__, "tensorflow": tf.__version__},
    }
    predictions = model.predict(parts["test"], batch_size=4096, verbose=0).ravel()
    np.savez(out, predictions=predictions, reported=np.array(json.dumps(reported)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
