"""Train a model of FuxiCTR on exported splits: run_fuxictr.py SPLITS.npz OUT.npz

Run by bench/accuracy_peers.py with the Python of .venv-fuxictr, which has FuxiCTR and no recops.
Of its models the package has those of long histories alone, in `model_zoo.LongCTR`. They read one
history, whose items and the candidate share a table.
"""

from __future__ import annotations

import inspect
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fuxictr
import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.torch_utils import seed_everything
from model_zoo import LongCTR
from sklearn.metrics import roc_auc_score

POOLING = {"mean": "layers.MaskedAveragePooling()", "sum": "layers.MaskedSumPooling()"}
LABEL = "label"

# What FuxiCTR's data loader makes: the fields and the label, the items, where the history is.
Batch = tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], torch.Tensor]


def history(features: list[dict[str, Any]]) -> dict[str, Any]:
    """The feature that holds what the user clicked."""
    (found,) = (f for f in features if f.get("target") and not f["sessions"])
    return found


def read(features: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The features other than lists of clicks: FuxiCTR has no auxiliary loss to take negatives."""
    return [f for f in features if not (f.get("target") or f.get("negative_of"))]


def column(feature: dict[str, Any], target: str) -> dict[str, Any]:
    """A feature of recops in FuxiCTR's words; both have id 0 for padding."""
    if feature["class_name"] == "DenseFeature":
        # Either is a linear map of the numbers.
        width = feature["dimension"]
        return {
            "type": "numeric" if width == 1 else "embedding",
            "source": "",
            "pretrain_dim": width,
        }
    table = {
        "source": "item" if feature["name"] == target else "",
        "padding_idx": 0,
        "vocab_size": feature["vocabulary_size"] + 1,
        "embedding_dim": feature["embedding_dim"],
    }
    if feature["class_name"] == "SparseFeature":
        return {"type": "categorical", **table}
    pooled = {"max_len": feature["max_length"], "feature_encoder": POOLING[feature["combiner"]]}
    return {"type": "sequence", **table, **pooled}


def build(asked: dict[str, Any]) -> Any:
    """The model with as many of the settings as it takes."""
    target = history(asked["features"])["target"]
    known = FeatureMap("splits", "")
    known.labels = [LABEL]
    for feature in read(asked["features"]):
        known.features[feature["name"]] = column(feature, target)
    known.num_fields = known.get_num_fields()
    known.default_emb_dim = known.features[target]["embedding_dim"]
    make = getattr(LongCTR, asked["model"])
    wanted = {
        "embedding_dim": known.default_emb_dim,
        "learning_rate": asked["learning_rate"],
        "dnn_hidden_units": asked["hidden_units"],
        "net_dropout": asked["dropout"],
        # FuxiCTR halves the penalty, Keras does not.
        "embedding_regularizer": 2 * asked["l2_embedding"],
        # As recops trains them: by FuxiCTR's defaults only DIEN has either.
        "din_use_softmax": True,
        "batch_norm": False,
    }
    options = {k: v for k, v in wanted.items() if k in inspect.signature(make).parameters}
    model = make(
        known,
        **options,
        optimizer="adam",
        loss="binary_crossentropy",
        metrics=["AUC"],
        model_root="",
        verbose=0,
    )
    # As its `fit` sets them, which would also lower the learning rate where the AUC falls.
    model._batch_index, model._max_gradient_norm = 0, 10.0
    return model


def batches(
    part: dict[str, np.ndarray],
    features: list[dict[str, Any]],
    size: int,
    rng: np.random.Generator | None = None,
) -> Iterator[Batch]:
    """A split in batches, shuffled where there is a generator."""
    clicks = history(features)
    fields = [f["name"] for f in read(features) if f["name"] != clicks["target"]]
    rows = np.arange(len(part[LABEL])) if rng is None else rng.permutation(len(part[LABEL]))
    for start in range(0, len(rows), size):
        at = rows[start : start + size]
        given = {name: torch.from_numpy(part[name][at]) for name in (*fields, LABEL)}
        seen = part[clicks["name"]][at]
        # The candidate stands behind its history.
        items = np.concatenate([seen, part[clicks["target"]][at].reshape(-1, 1)], axis=1)
        mask = torch.from_numpy(seen > 0)
        yield given, {clicks["target"]: torch.from_numpy(items.ravel())}, mask


def main(source: Path, out: Path) -> None:
    """Train until the validation AUC no longer rises; predict the test split at the best epoch."""
    with np.load(source) as found:
        arrays = dict(found)
    asked = json.loads(str(arrays.pop("asked")))
    seed_everything(asked["seed"])
    rng = np.random.default_rng(asked["seed"])
    parts: dict[str, dict[str, np.ndarray]] = {"train": {}, "validation": {}, "test": {}}
    for key, values in arrays.items():
        part, name = key.split("/", 1)
        parts[part][LABEL if name == "labels" else name] = values
    features = asked["features"]
    model = build(asked)
    best, weights, since, aucs, seconds = 0.0, {}, 0, [], []
    for _ in range(asked["epochs"]):
        begun = time.perf_counter()
        model.train()
        for batch in batches(parts["train"], features, asked["batch_size"], rng):
            model.train_step(batch)
        seconds.append(time.perf_counter() - begun)
        predicted = model.predict(batches(parts["validation"], features, 4096))
        aucs.append(float(roc_auc_score(parts["validation"][LABEL], predicted)))
        since += 1
        if aucs[-1] > best:
            best, since = aucs[-1], 0
            weights = {name: values.clone() for name, values in model.state_dict().items()}
        if since >= asked["patience"]:
            break
    model.load_state_dict(weights)
    reported = {
        "validation_auc": best,
        "best_epoch": aucs.index(best) + 1,
        "epochs": len(aucs),
        "seconds_per_epoch": float(np.median(seconds)),
        "parameters": sum(values.numel() for values in model.parameters()),
        "versions": {"fuxictr": fuxictr.__version__, "torch": torch.__version__},
    }
    predictions = model.predict(batches(parts["test"], features, 4096))
    np.savez(out, predictions=predictions, reported=np.array(json.dumps(reported)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
