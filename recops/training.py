"""Training on a data set: early stopping by an exact figure, and runs that survive a kill."""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from recops import losses, trees
from recops._core import checks, compat, dispatch
from recops._core.compat import keras
from recops.data import Dataset, movielens_100k
from recops.data.readers import READERS
from recops.evaluation import judgement, read_by
from recops.evaluation import scores as scores
from recops.features import DenseFeature
from recops.models import CATALOGUE, ESTIMATORS
from recops.retrieval import Index
from recops.runs import check_vacant, opened, recorded, standing
from recops.settings import TRAINING
from recops.watch import Watch as _Watch

DATA: dict[str, Callable[[str], Dataset]] = {"movielens-100k": movielens_100k}
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
JIT = ("auto", "on", "off")

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
            watch = _Watch(
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
    watch: _Watch,
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


def train_named(
    name: str,
    data: str = "movielens-100k",
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    patience: int | None = None,
    seed: int | None = None,
    backend: str | None = None,
    precision: str | None = None,
    jit: str | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    verbose: int | str = "auto",
) -> Result:
    """Train a model of the catalogue on a data set that `dataset` knows, both by name.

    What is None is taken from the run in `out` when that is resumed, else from `TRAINING`.

    Args:
      epochs, batch_size, patience, seed, out, resume, verbose: as in `train`.
      learning_rate: of Adam. An estimator (GBDTLR) takes none of the options of epochs and steps,
        and `out` then holds `model.pkl`.
      backend: of all layers while training; the saved model names none.
      precision: "float32", "mixed_bfloat16" or "mixed_float16".
      jit: "on" compiles the step with XLA; "auto" does where a GPU is visible.

    Returns: Result.

    Raises: as `train`; ValueError for an unknown name, BackendError for a backend that cannot run,
    DataError when the data cannot be read.
    """
    checks.choice("train", "model", name, (*CATALOGUE, *ESTIMATORS))
    read = _reader(data)
    if name in ESTIMATORS:
        trees.check_options(
            name,
            resume,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            patience=patience,
            backend=backend,
            precision=precision,
            jit=jit,
        )
        return _fit_trees(name, data, read, seed or 0, None if out is None else Path(out))
    entry = CATALOGUE[name]
    settings = TRAINING[name]
    begun: dict[str, Any] = {}
    if out is not None and resume:
        begun = recorded(Path(out))["options"]
    elif out is not None:
        check_vacant(Path(out))
    asked = {
        "epochs": (epochs, 30),
        "batch_size": (batch_size, settings.batch_size),
        "learning_rate": (learning_rate, settings.learning_rate),
        "patience": (patience, settings.patience),
        "seed": (seed, 0),
        "backend": (backend, dispatch.current()),
        "precision": (precision, PRECISIONS[0]),
        "jit": (jit, JIT[0]),
    }
    chosen: dict[str, Any] = {
        what: begun.get(what, default) if value is None else value
        for what, (value, default) in asked.items()
    }
    own = {what: chosen[what] for what in ("learning_rate", "backend", "precision", "jit")}
    _check_backend(chosen["backend"])
    splits = read(entry.task)
    with dispatch.backend(chosen["backend"]):
        model = build(
            name,
            splits,
            seed=chosen["seed"],
            learning_rate=chosen["learning_rate"],
            precision=chosen["precision"],
            jit=chosen["jit"],
        )
        return train(
            model,
            splits,
            epochs=chosen["epochs"],
            batch_size=chosen["batch_size"],
            patience=chosen["patience"],
            seed=chosen["seed"],
            out=out,
            resume=resume,
            options={"model": name, "data": data, **own},
            verbose=verbose,
        )


def _fit_trees(
    name: str, data: str, read: Callable[[str], Dataset], seed: int, out: Path | None
) -> Result:
    model, record, test = trees.train(
        read(ESTIMATORS[name].task), seed=seed, options={"model": name, "data": data}, out=out
    )
    speeds = record["samples_per_second"], record["ms_per_step"]
    return Result(model, [record], 1, "auc", record["validation_auc"], test, *speeds, out)


def dataset(spec: str, task: str) -> Dataset:
    """The data set of `DATA` by its name, or of "READER:PATH" by a reader of `READERS`."""
    return _reader(spec)(task)


def _reader(spec: str) -> Callable[[str], Dataset]:
    name, _, path = spec.partition(":")
    if name in READERS and path:
        return lambda task: READERS[name](path, task=task)
    known = (*DATA, *(f"{reader}:PATH" for reader in READERS))
    return DATA[checks.choice("train", "data", spec, known)]


def build(
    name: str,
    data: Dataset,
    *,
    seed: int = 0,
    learning_rate: float | None = None,
    precision: str = "float32",
    jit: str = "auto",
) -> Any:
    """A model of the catalogue for a data set with the sizes of `TRAINING`, compiled with Adam."""
    checks.choice("train", "mixed precision", precision, PRECISIONS)
    checks.choice("train", "jit", jit, JIT)
    settings = TRAINING[name]
    rate = settings.learning_rate if learning_rate is None else learning_rate
    if not 0 < rate < math.inf:
        raise ValueError(f"train: learning_rate must be above 0, got {rate}")
    with _policy(precision):
        model = CATALOGUE[name].build(
            sized(data, settings.embedding_dim), seed=seed, **settings.options
        )
        model.compile(
            keras.optimizers.Adam(rate),
            losses.identity if data.task == "retrieval" else CATALOGUE[name].loss,
            jit_compile=jit == "on" or (jit == "auto" and dispatch.gpu_visible()),
        )
    return model


def sized(data: Dataset, embedding_dim: int) -> list[Any]:
    """The features of a data set with embeddings of this width."""
    return [
        f if isinstance(f, DenseFeature) else replace(f, embedding_dim=embedding_dim)
        for f in data.features
    ]


@contextlib.contextmanager
def _policy(name: str) -> Iterator[None]:
    # Layers take the policy when they are made; afterwards the process has its own again.
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


@contextlib.contextmanager
def _folder(out: str | os.PathLike[str] | None) -> Iterator[Path]:
    if out is not None:
        yield Path(out)
        return
    with tempfile.TemporaryDirectory(prefix="recops-") as folder:
        yield Path(folder)


def _check_backend(name: str) -> None:
    """Raise BackendError when no op runs with a backend; Keras would bury the message."""
    if dispatch.check_name(name, "train: backend") == "auto":
        return
    reasons = [room.why_not(name, op) for op, room in dispatch.rooms().items()]
    if None not in reasons:
        raise dispatch.BackendError(f"train: backend {name!r} cannot run here: {reasons[0]}")
