"""The training loop: early stopping by an exact figure, and runs that survive a kill."""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recops._core import compat
from recops.data import Dataset
from recops.retrieval import Index
from recops.training.evaluation import judgement, read_by
from recops.training.runs import opened, standing
from recops.training.watch import Watch

INDEX = "index.npz"


@dataclass(frozen=True)
class Result:
    """A finished training.

    `model` has the weights of the best epoch, `epochs` one record an epoch. `criterion` is the
    figure that early stopping watched, and `validation` its value in the best epoch. `test` has all
    figures of that epoch by name: auc, logloss and gauc of clicks, or hit_rate@10, ndcg@10 and so
    on of recall, where `baseline` has what popularity gets. Speeds are of steady state: no step
    that traces or compiles counts.
    """

    model: Any
    epochs: list[dict[str, Any]]
    best_epoch: int
    criterion: str
    validation: float
    test: dict[str, float]
    samples_per_second: float
    ms_per_step: float
    out: Path | None
    baseline: dict[str, float] = field(default_factory=dict)

    @property
    def validation_auc(self) -> float:
        """Validation AUC of the best epoch."""
        return self.epochs[self.best_epoch - 1]["validation_auc"]

    def __str__(self) -> str:
        rows = {"test": self.test, "popularity": self.baseline}
        figures = "\n".join(
            f"{row}: " + "  ".join(f"{name} {value:.4f}" for name, value in found.items())
            for row, found in rows.items()
            if found
        )
        return (
            f"best epoch {self.best_epoch} of {len(self.epochs)}: validation {self.criterion} "
            f"{self.validation:.4f}\n{figures}\n"
            f"speed: {self.samples_per_second:,.0f} samples/s, {self.ms_per_step:.2f} ms/step"
        )


def train(
    model: Any,
    data: Dataset,
    *,
    epochs: int = 30,
    batch_size: int = 512,
    patience: int = 2,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    options: Mapping[str, Any] | None = None,
    verbose: int | str = "auto",
) -> Result:
    """Train a compiled model until its validation figure no longer rises.

    That is the AUC, or the hit rate at 10 where the data's task is to find an item.

    After each epoch the state (weights and optimizer) and the history are on disk, so that a killed
    run loses the unfinished epoch alone. Shuffle and dropout are functions of (seed, epoch), and
    early stopping is one of the history: a resumed run does what an unbroken one would have done.

    Args:
      model: compiled. Its output is one probability; for the task "retrieval" it is a loss, and the
        model has `user_model` and `item_embeddings()`, which are indexed.
      data: its splits; test figures are taken once, at the best epoch.
      epochs: most epochs.
      batch_size: rows a step.
      patience: stop after this many epochs without a new best.
      seed: of shuffle and dropout.
      out: folder for `model.keras` (the best epoch), `history.json`, `state/` and, of retrieval,
        `index.npz` (see `recops.retrieval.Index`); None keeps none.
      resume: go on with the run in `out`. The model must be built and compiled as it was.
      options: plain values that tell this run from others; a resumed run must have the same.
      verbose: 0, 1 (Keras's progress bar), 2 (a line an epoch); "auto" is 1 on a terminal, else 2.

    Returns: Result.

    Raises: ValueError when a number is out of range, `out` holds a run and `resume` is not set (or
    the reverse), the run there has other options, or predictions are not finite; OSError when `out`
    cannot be written, before any training.

    Numerics: under tf_keras and Keras 2.15 dropout keeps its random state to itself, so that a
    resumed run of a model with dropout draws other masks than an unbroken one.
    """
    for name, value in (("epochs", epochs), ("batch_size", batch_size), ("patience", patience)):
        if value < 1:
            raise ValueError(f"train: {name} must be 1 or more, got {value}")
    if seed < 0:
        raise ValueError(f"train: seed must be 0 or more, got {seed}")
    if verbose == "auto":
        verbose = 1 if sys.stdout.isatty() else 2
    # What judges the model may look at more than the model reads.
    whole, data = data, read_by(model, data)
    judged = judgement(whole)
    asked = {
        **(options or {}),
        "batch_size": batch_size,
        "patience": patience,
        "seed": seed,
        "parameters": model.count_params(),
        "rows": [len(data.train), len(data.validation), len(data.test)],
    }
    with _folder(out) as folder, opened(folder, asked, resume, judged.criterion) as run:
        if run.epochs:
            run.restore(model, len(run.epochs))
        run.options["epochs"] = max(epochs, len(run.epochs))
        for epoch in range(len(run.epochs), epochs):
            if standing(run.figures)[1] >= patience:
                break
            watch = Watch(
                judged.criterion,
                lambda: judged.figures(model, whole, whole.validation),
                len(data.train) // batch_size,
            )
            record = _epoch(model, data, watch, epoch, epochs, batch_size, seed, verbose)
            run.commit(model, record)
        best = standing(run.figures)[0]
        run.restore(model, best + 1)
        if whole.task == "retrieval":
            _index(model, whole).save(folder / INDEX)
        run.finish(best + 1, judged.figures(model, whole, whole.test))
        return Result(
            model,
            run.epochs,
            best + 1,
            judged.criterion,
            run.figures[best],
            run.test,
            statistics.median(e["samples_per_second"] for e in run.epochs),
            statistics.median(e["ms_per_step"] for e in run.epochs),
            folder if out is not None else None,
            judged.baseline(whole, whole.test) if judged.baseline else {},
        )


def _index(model: Any, data: Dataset) -> Index:
    """The items of a trained model, by what their ids stand for."""
    vectors = model.item_embeddings()
    return Index(vectors[1:], data.values.get(data.item, np.arange(len(vectors)))[1:])


def _epoch(
    model: Any,
    data: Dataset,
    watch: Watch,
    epoch: int,
    epochs: int,
    batch_size: int,
    seed: int,
    verbose: int | str,
) -> dict[str, Any]:
    """Train one epoch and validate; its record in the history."""
    compat.reseed(model, seed, epoch)
    # One `fit` an epoch, since each has batches of its own; the watch ends it after the first.
    log = model.fit(
        data.train.batches(batch_size, shuffle=True, seed=seed, epoch=epoch),
        epochs=epochs,
        initial_epoch=epoch,
        shuffle=False,
        verbose=verbose,
        callbacks=[watch],
    )
    steps = math.ceil(len(data.train) / batch_size)
    seconds = watch.step_seconds or watch.seconds / steps
    return {
        "epoch": epoch + 1,
        "loss": float(log.history["loss"][0]),
        **{f"validation_{name}": value for name, value in watch.validation.items()},
        "seconds": watch.seconds,
        "samples_per_second": min(batch_size, len(data.train)) / seconds,
        "ms_per_step": 1e3 * seconds,
    }


@contextlib.contextmanager
def _folder(out: str | os.PathLike[str] | None) -> Iterator[Path]:
    if out is not None:
        yield Path(out).expanduser()
        return
    with tempfile.TemporaryDirectory(prefix="recops-") as folder:
        yield Path(folder)
