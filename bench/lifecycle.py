"""Every model from training to serving: `recops train`, then the saved model in a fresh process.

    python bench/lifecycle.py [MODEL ...] [--precision float32 mixed_bfloat16] [--epochs 1]

One process trains a model by the command line and keeps what it predicts for the first test rows;
another loads what the command has saved and predicts the same rows. Both must give the same numbers
up to TOLERANCE; a line a model says how far they are apart. The status is 1 where any is further,
or a process has failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

# Of the larger of 1 and the value. Programs, weights and rows are the same, so most are bit-equal;
# matrices whose products are cut by the number of free threads may not be.
TOLERANCE = 1e-6
ROWS = 4096
PRECISIONS = ("float32", "mixed_bfloat16")
TREES = "trees"


def predictions(model: Any, data: Any) -> dict[str, np.ndarray]:
    """What a model gives for the first test rows, by what it is."""
    from recops.training import gbdt_lr
    from recops.training.evaluation import read_by

    part = data.test
    part = replace(
        part,
        inputs={name: values[:ROWS] for name, values in part.inputs.items()},
        labels=part.labels[:ROWS],
        groups=part.groups[:ROWS],
    )
    if hasattr(model, "predict_proba"):
        found = {"probability": model.predict_proba(gbdt_lr.matrix(data.features, part.inputs)[0])}
    elif data.task == "retrieval":
        users = model.user_model.predict(read_by(model.user_model, part).batches(ROWS), verbose=0)
        found = {"users": users, "items": model.item_embeddings()}
    else:
        found = {"output": model.predict(read_by(model, part).batches(ROWS), verbose=0)}
    return {name: np.asarray(values, np.float64) for name, values in found.items()}


def train(name: str, precision: str, data: str, epochs: int, out: Path) -> int:
    """`recops train`, and what the model that it has trained predicts, beside its folder."""
    from recops import cli, training
    from recops.models import CATALOGUE, ESTIMATORS

    kept: list[training.Result] = []
    by_name = training.train_named

    def keeping(*arguments: Any, **options: Any) -> training.Result:
        kept.append(by_name(*arguments, **options))
        return kept[-1]

    training.train_named = keeping
    command = ["train", name, "--data", data, "--out", str(out)]
    if name not in ESTIMATORS:
        command += ["--epochs", str(epochs), "--mixed-precision", precision]
    if code := cli.main(command):
        return code
    task = {**CATALOGUE, **ESTIMATORS}[name].task
    np.savez(out / "trained.npz", **predictions(kept[0].model, training.dataset(data, task)))
    return 0


def load(name: str, data: str, out: Path) -> int:
    """What the saved model predicts, beside its folder."""
    from recops import models
    from recops._core.compat import keras
    from recops.training import dataset, gbdt_lr

    if name in models.ESTIMATORS:
        model, task = models.GBDTLR.load(out / gbdt_lr.MODEL), models.ESTIMATORS[name].task
    else:
        model = keras.models.load_model(out / "model.keras")
        task = models.CATALOGUE[name].task
    np.savez(out / "loaded.npz", **predictions(model, dataset(data, task)))
    return 0


def difference(out: Path) -> float:
    """The largest difference between the two files of predictions; infinite where forms differ."""
    with np.load(out / "trained.npz") as trained, np.load(out / "loaded.npz") as loaded:
        if set(trained) != set(loaded):
            return float("inf")
        return max(_apart(trained[key], loaded[key]) for key in trained)


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    return float((np.abs(a - b) / np.maximum(1, np.abs(a))).max(initial=0))


def check(name: str, precision: str, data: str, epochs: int) -> tuple[str, bool]:
    """Train and load a model, each in a process of its own; what to say, and whether it is well."""
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="recops-") as folder:
        asked = [name, "--precision", precision, "--data", data, "--epochs", str(epochs)]
        for stage in ("train", "load"):
            command = [sys.executable, __file__, *asked, "--stage", stage, "--folder", folder]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(done.stdout + done.stderr, file=sys.stderr, flush=True)
                return f"{precision}: {stage} failed with {done.returncode}", False
        apart = difference(Path(folder) / "run")
    said = "bit-equal" if apart == 0 else f"{apart:.1e} apart"
    seconds = time.perf_counter() - begun
    return f"{precision}: {said} ({seconds:.0f} s)", apart <= TOLERANCE


def main(arguments: Sequence[str] | None = None) -> int:
    """A line a model; 1 where one has changed on its way."""
    from recops.models import CATALOGUE, ESTIMATORS

    known = (*CATALOGUE, *ESTIMATORS)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="names of models; all by default")
    parser.add_argument("--precision", nargs="+", choices=(*PRECISIONS, TREES), default=PRECISIONS)
    parser.add_argument("--data", default="movielens-100k", help="as of `recops train`")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--stage", choices=("train", "load"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.models if name not in known]:
        parser.error(f"expected models among {', '.join(known)}, got {', '.join(unknown)}")
    if options.stage:
        (name,), (precision,) = options.models, options.precision
        out = options.folder / "run"
        if options.stage == "train":
            return train(name, precision, options.data, options.epochs, out)
        return load(name, options.data, out)
    changed = []
    for name in options.models or known:
        # Trees have no policy.
        asked = (TREES,) if name in ESTIMATORS else options.precision
        found = [check(name, precision, options.data, options.epochs) for precision in asked]
        well = all(good for _, good in found)
        texts = "  ".join(text for text, _ in found)
        print(f"{'ok     ' if well else 'CHANGED'} {name:20} {texts}", flush=True)
        if not well:
            changed.append(name)
    if changed:
        print(f"not the same after loading: {', '.join(changed)}", file=sys.stderr)
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
