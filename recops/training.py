"""Training on a data set: early stopping by exact AUC, and runs that survive a kill."""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from recops import metrics
from recops._core import checks, compat, dispatch
from recops._core.compat import keras
from recops.data import Dataset, Split, movielens_100k
from recops.data.readers import READERS
from recops.features import DenseFeature
from recops.models import CATALOGUE
from recops.runs import check_vacant, opened, recorded, standing
from recops.settings import TRAINING

DATA: dict[str, Callable[[str], Dataset]] = {"movielens-100k": movielens_100k}
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
JIT = ("auto", "on", "off")

_PREDICT_BATCH = 4096
_Data = TypeVar("_Data", Dataset, Split)


@dataclass(frozen=True)
class Result:
    """A finished training.

    `model` has the weights of the best epoch, `epochs` one record an epoch, `test` the auc, logloss
    and gauc of the best one. Speeds are of steady state: no step that traces or compiles counts.
    """

    model: Any
    epochs: list[dict[str, Any]]
    best_epoch: int
    validation_auc: float
    test: dict[str, float]
    samples_per_second: float
    ms_per_step: float
    out: Path | None

    def __str__(self) -> str:
        figures = "  ".join(f"{name} {value:.4f}" for name, value in self.test.items())
        return (
            f"best epoch {self.best_epoch} of {len(self.epochs)}: validation auc "
            f"{self.validation_auc:.4f}\ntest: {figures}\n"
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
    """Train a compiled model until its validation AUC no longer rises.

    After each epoch the state (weights and optimizer) and the history are on disk, so that a killed
    run loses the unfinished epoch alone. Shuffle and dropout are functions of (seed, epoch), and
    early stopping is one of the history: a resumed run does what an unbroken one would have done.

    Args:
      model: compiled, with one probability as output.
      data: its splits; test figures are taken once, at the best epoch.
      epochs: most epochs.
      batch_size: rows a step.
      patience: stop after this many epochs without a new best.
      seed: of shuffle and dropout.
      out: folder for `model.keras` (the best epoch), `history.json` and `state/`; None keeps none.
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
    data = _read_by(model, data)
    asked = {
        **(options or {}),
        "batch_size": batch_size,
        "patience": patience,
        "seed": seed,
        "parameters": model.count_params(),
        "rows": [len(data.train), len(data.validation), len(data.test)],
    }
    with _folder(out) as folder, opened(folder, asked, resume) as run:
        if run.epochs:
            run.restore(model, len(run.epochs))
        run.options["epochs"] = max(epochs, len(run.epochs))
        for epoch in range(len(run.epochs), epochs):
            if standing(run.aucs)[1] >= patience:
                break
            record = _epoch(model, data, epoch, epochs, batch_size, seed, verbose)
            run.commit(model, record)
        best = standing(run.aucs)[0]
        run.restore(model, best + 1)
        run.finish(best + 1, scores(model, data.test))
        return Result(
            model,
            run.epochs,
            best + 1,
            run.aucs[best],
            run.test,
            statistics.median(e["samples_per_second"] for e in run.epochs),
            statistics.median(e["ms_per_step"] for e in run.epochs),
            folder if out is not None else None,
        )


def scores(model: Any, part: Split) -> dict[str, float]:
    """Exact auc, logloss and gauc of a model's predictions."""
    predictions = model.predict(_read_by(model, part).batches(_PREDICT_BATCH), verbose=0)
    lost = np.count_nonzero(~np.isfinite(predictions))
    if lost:
        raise ValueError(
            f"train: {lost} of {len(part)} predictions are not finite: the training has diverged; "
            f"lower the learning rate or use float32"
        )
    return {
        "auc": metrics.auc(part.labels, predictions),
        "logloss": metrics.log_loss(part.labels, predictions),
        "gauc": metrics.gauc(part.labels, predictions, part.groups),
    }


def _read_by(model: Any, data: _Data) -> _Data:
    """The data with the inputs that a model takes alone: Keras warns of others at each call."""
    try:
        inputs = model.input
    except (AttributeError, RuntimeError, ValueError):
        # A model of a class of its own says nowhere what it reads.
        return data
    return data.select(inputs) if isinstance(inputs, dict) else data


def _epoch(
    model: Any,
    data: Dataset,
    epoch: int,
    epochs: int,
    batch_size: int,
    seed: int,
    verbose: int | str,
) -> dict[str, Any]:
    """Train one epoch and validate; its record in the history."""
    compat.reseed(model, seed, epoch)
    watch = _Watch(data.validation, len(data.train) // batch_size)
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


class _Watch(keras.callbacks.Callback):
    """Times the steps, validates when they are done, and ends `fit` there."""

    def __init__(self, part: Split, full_steps: int) -> None:
        super().__init__()
        self.part = part
        self.last = full_steps - 1
        self.seconds = 0.0
        self.step_seconds: float | None = None
        self.validation: dict[str, float] = {}

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._begun = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # From the end of the first step, which may compile, to that of the last full batch, after
        # which a shorter one may compile again.
        if batch == 0:
            self._first = _now()
        elif batch == self.last:
            self.step_seconds = (_now() - self._first) / batch

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds = _now() - self._begun
        self.validation = scores(self.model, self.part)
        if logs is not None:
            logs["val_auc"] = self.validation["auc"]
        self.model.stop_training = True


def _now() -> float:
    tf.test.experimental.sync_devices()
    return time.perf_counter()


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
      learning_rate: of Adam.
      backend: of all layers while training; the saved model names none.
      precision: "float32", "mixed_bfloat16" or "mixed_float16".
      jit: "on" compiles the step with XLA; "auto" does where a GPU is visible.

    Returns: Result.

    Raises: as `train`; ValueError for an unknown name, BackendError for a backend that cannot run,
    DataError when the data cannot be read.
    """
    entry = CATALOGUE[checks.choice("train", "model", name, tuple(CATALOGUE))]
    read = _reader(data)
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
            "binary_crossentropy",
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
