"""Training by name: models of the catalogue and data sets, built, sized and compiled alike."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from recops import losses
from recops._core import checks, device, dispatch
from recops._core.compat import keras
from recops.data import Dataset, movielens_100k
from recops.data.readers import READERS
from recops.features import DenseFeature
from recops.models import CATALOGUE, ESTIMATORS
from recops.training import gbdt_lr, optimizers
from recops.training.loop import Result, train
from recops.training.runs import begun as is_begun
from recops.training.runs import check_vacant, recorded
from recops.training.settings import TRAINING
from recops.training.strategies import STRATEGIES, team_of

DATA: dict[str, Callable[[str], Dataset]] = {"movielens-100k": movielens_100k}
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
JIT = ("auto", "on", "off")


def train_named(
    name: str,
    data: str = "movielens-100k",
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    optimizer: str | None = None,
    patience: int | None = None,
    seed: int | None = None,
    backend: str | None = None,
    precision: str | None = None,
    jit: str | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool | str = False,
    checkpoint_steps: int | None = None,
    strategy: str = STRATEGIES[0],
    wait: float = 600.0,
    verbose: int | str = "auto",
) -> Result:
    """Train a model of the catalogue on a data set that `dataset` knows, both by name.

    What is None is taken from the run in `out` when that is resumed, else from `TRAINING`.

    Args:
      epochs, batch_size, patience, seed, out, resume, verbose: as in `train`.
      learning_rate: of the optimizer. An estimator (GBDTLR) takes none of the options of epochs and
        steps, and `out` then holds `model.pkl`.
      optimizer: "lazy_adam", "adam", "adagrad", "rowwise_adagrad", "ftrl" or "sgd", the row-sparse
        ones of `recops.optimizers` where it has them. "lazy_adam" moves tables without momentum.
        Where none is asked for, WideDeep has FTRL for its wide part and LazyAdam, whose the
        learning rate is, for the deep one.
      backend: of all layers while training; the saved model names none.
      precision: "float32", "mixed_bfloat16" or "mixed_float16".
      jit: "on" compiles the step with XLA; "auto" does where a GPU will run it. Under a strategy
        it is "off", and XLA inside the layers stays.
      checkpoint_steps: as in `train`.
      strategy: "none"; "mirrored", all devices of this process; or "multi_worker", all processes
        that `TF_CONFIG` names, each of which calls this alike.
      wait: seconds to wait for the other processes at first.

    Returns: Result.

    Raises: as `train`; ValueError for an unknown name, BackendError for a backend that cannot run,
    DataError when the data cannot be read.
    """
    checks.choice("train", "model", name, (*CATALOGUE, *ESTIMATORS))
    read = _reader(data)
    if name in ESTIMATORS:
        gbdt_lr.check_options(
            name,
            bool(resume),
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            optimizer=optimizer,
            patience=patience,
            backend=backend,
            precision=precision,
            jit=jit,
        )
        return _fit_gbdt_lr(
            name, data, read, seed or 0, None if out is None else Path(out).expanduser()
        )
    entry = CATALOGUE[name]
    settings = TRAINING[name]
    # Before anything else: TensorFlow finds the other processes when it starts, or not at all.
    team = team_of(strategy, wait)
    if team.strategy and jit == "on":
        raise ValueError(f"train: the strategy {strategy} has no jit 'on'; leave it out")
    begun: dict[str, Any] = {}
    if out is not None and team.chief:
        folder = Path(out).expanduser()
        resume = is_begun(folder) if resume == "auto" else resume
        begun = recorded(folder)["options"] if resume else {}
        if not resume:
            check_vacant(folder)
    begun = team.told(begun)
    named = optimizers.checked(optimizer or begun.get("optimizer", settings.optimizer), settings)
    asked = {
        "epochs": (epochs, 30),
        "batch_size": (batch_size, settings.batch_size),
        "learning_rate": (learning_rate, optimizers.learning_rate(named, settings)),
        "optimizer": (optimizer, named),
        "l2_embedding_rows": (None, settings.options.get("l2_embedding_rows", "all")),
        "patience": (patience, settings.patience),
        "seed": (seed, 0),
        "checkpoint_steps": (checkpoint_steps, None),
        "backend": (backend, dispatch.current()),
        "precision": (precision, PRECISIONS[0]),
        "jit": (jit, "off" if team.strategy else JIT[0]),
    }
    chosen: dict[str, Any] = {
        what: begun.get(what, default) if value is None else value
        for what, (value, default) in asked.items()
    }
    names = ("learning_rate", "optimizer", "l2_embedding_rows", "backend", "precision", "jit")
    own = {what: chosen[what] for what in names}
    _check_backend(chosen["backend"])
    splits = read(entry.task)
    with dispatch.backend(chosen["backend"]):
        with team.strategy.scope() if team.strategy else contextlib.nullcontext():
            model = build(
                name,
                splits,
                seed=chosen["seed"],
                learning_rate=chosen["learning_rate"],
                optimizer=chosen["optimizer"],
                l2_embedding_rows=chosen["l2_embedding_rows"],
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
            checkpoint_steps=chosen["checkpoint_steps"],
            options={"model": name, "data": data, **own},
            verbose=verbose,
        )


def _fit_gbdt_lr(
    name: str, data: str, read: Callable[[str], Dataset], seed: int, out: Path | None
) -> Result:
    model, record, test = gbdt_lr.train(
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
    optimizer: str | None = None,
    l2_embedding_rows: str | None = None,
    precision: str = "float32",
    jit: str = "auto",
) -> Any:
    """A model of the catalogue for a data set with the sizes of `TRAINING`, compiled.

    Args:
      learning_rate, optimizer, precision, jit: as in `train_named`; None is that of `TRAINING`.
      l2_embedding_rows: of models whose settings say which; None is theirs.
    """
    checks.choice("train", "mixed precision", precision, PRECISIONS)
    checks.choice("train", "jit", jit, JIT)
    settings = TRAINING[name]
    named = optimizers.checked(optimizer or settings.optimizer, settings)
    rate = optimizers.learning_rate(named, settings) if learning_rate is None else learning_rate
    if not 0 < rate < math.inf:
        raise ValueError(f"train: learning_rate must be above 0, got {rate}")
    options = dict(settings.options)
    if l2_embedding_rows is not None and "l2_embedding_rows" in options:
        options["l2_embedding_rows"] = l2_embedding_rows
    with _policy(precision):
        model = CATALOGUE[name].build(sized(data, settings.embedding_dim), seed=seed, **options)
        model.compile(
            optimizers.made(named, rate, settings, model),
            losses.identity if data.task == "retrieval" else CATALOGUE[name].loss,
            jit_compile=jit == "on" or (jit == "auto" and device.kind() == "GPU"),
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


def _check_backend(name: str) -> None:
    """Raise BackendError when no op runs with a backend; Keras would bury the message."""
    if dispatch.check_name(name, "train: backend") == "auto":
        return
    reasons = [room.why_not(name, op) for op, room in dispatch.rooms().items()]
    if None not in reasons:
        raise dispatch.BackendError(f"train: backend {name!r} cannot run here: {reasons[0]}")
