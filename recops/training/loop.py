"""The training loop: early stopping by an exact figure, and runs that survive a kill."""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recops._core import compat
from recops.data import Dataset, Split
from recops.retrieval import Index
from recops.training.evaluation import judgement, read_by
from recops.training.replicated import Replicated
from recops.training.runs import Followed, Run, begun, opened, standing
from recops.training.team import GONE, Team, lost
from recops.training.watch import Keeper, Watch

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
    resume: bool | str = False,
    checkpoint_steps: int | None = None,
    options: Mapping[str, Any] | None = None,
    verbose: int | str = "auto",
) -> Result:
    """Train a compiled model until its validation figure no longer rises.

    That is the AUC, or the hit rate at 10 where the data's task is to find an item.

    After each epoch the state (weights and optimizer) and the history are on disk, so that a killed
    run loses the unfinished epoch alone, or the steps since its last checkpoint. Shuffle and
    dropout are functions of (seed, epoch), and early stopping is one of the history: a resumed run
    does what an unbroken one would have done.

    A model made and compiled in the scope of a MirroredStrategy or MultiWorkerMirroredStrategy is
    trained under it (Keras 3). `batch_size` is then the rows of all replicas together, the loss and
    the gradients are those of one process on all of them, and all processes call this alike; the
    chief alone reads and writes `out` and judges the model.

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
      resume: go on with the run in `out`. The model must be built and compiled as it was. "auto"
        begins one where there is none.
      checkpoint_steps: also keep the state after each so many steps of an epoch, and go on from
        there; a stream then reads no row twice.
      options: plain values that tell this run from others; a resumed run must have the same.
      verbose: 0, 1 (Keras's progress bar), 2 (a line an epoch); "auto" is 1 on a terminal, else 2.

    Returns: Result.

    Raises: ValueError when a number is out of range, a batch cannot be shared out evenly, `out`
    holds a run and `resume` is not set (or the reverse), the run there has other options, or
    predictions are not finite; OSError when `out` cannot be written, before any training;
    LostWorkerError when another process is gone.

    Numerics: under tf_keras and Keras 2.15 dropout keeps its random state to itself, so that a
    resumed run of a model with dropout draws other masks than an unbroken one.
    """
    for name, value in (
        ("epochs", epochs),
        ("batch_size", batch_size),
        ("patience", patience),
        ("checkpoint_steps", checkpoint_steps),
    ):
        if value is not None and value < 1:
            raise ValueError(f"train: {name} must be 1 or more, got {value}")
    if seed < 0:
        raise ValueError(f"train: seed must be 0 or more, got {seed}")
    if verbose == "auto":
        verbose = 1 if sys.stdout.isatty() else 2
    team = Team.of(model)
    team.check(batch_size)
    # What judges the model may look at more than the model reads.
    whole, data = data, read_by(model, data)
    judged = judgement(whole)
    asked = {
        **(options or {}),
        "batch_size": batch_size,
        "patience": patience,
        "seed": seed,
        "checkpoint_steps": checkpoint_steps,
        "parameters": model.count_params(),
        "rows": [len(data.train), len(data.validation), len(data.test)],
    }
    trainer = Replicated(model, team) if team.strategy else _Alone(model, team)
    plan = _Plan(epochs, batch_size, seed, checkpoint_steps, verbose)

    def figures(part: Split) -> dict[str, float]:
        return team.told(judged.figures(model, whole, part) if team.chief else None)

    try:
        with _folder(out) as folder, _run(team, folder, asked, resume, judged.criterion) as run:
            _go_on(run, team, model)
            run.options["epochs"] = max(epochs, len(run.epochs))
            for epoch in range(len(run.epochs), epochs):
                if standing(run.figures)[1] >= patience:
                    break
                steps = len(data.train) // batch_size
                judge = partial(figures, whole.validation)
                watch = Watch(judged.criterion, judge, steps, team.workers == 1)
                run.commit(model, _epoch(trainer, data, watch, run, plan, epoch))
            best = standing(run.figures)[0]
            run.restore(model, best + 1)
            team.share(model)
            if team.chief and whole.task == "retrieval":
                _index(model, whole).save(folder / INDEX)
            run.finish(best + 1, figures(whole.test))
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
    except GONE as error:
        if team.workers == 1:
            raise
        raise lost(error) from error


@contextlib.contextmanager
def _run(
    team: Team, folder: Path, asked: dict[str, Any], resume: bool | str, criterion: str
) -> Iterator[Run]:
    """The run in a folder, which is the chief's; of the others one that is told what it holds."""
    if not team.chief:
        yield Followed(folder, {"options": asked, "epochs": [], "test": {}}, criterion)
        return
    with opened(
        folder, asked, begun(folder) if resume == "auto" else bool(resume), criterion
    ) as run:
        yield run


def _go_on(run: Run, team: Team, model: Any) -> None:
    """Give the model the state that the run stands at, in all processes."""
    told = team.told({"epochs": run.epochs, "halfway": run.halfway})
    run.epochs, run.halfway = told["epochs"], told["halfway"]
    if run.halfway and run.halfway["workers"] != team.workers:
        # So many other workers have other rows in a step: the epoch begins anew.
        run.halfway = None
    if run.halfway:
        run.restore(model, run.halfway["epoch"], run.halfway["step"])
    elif run.epochs:
        run.restore(model, len(run.epochs))
    else:
        return
    team.share(model)


@dataclass(frozen=True)
class _Plan:
    """What is the same in all epochs."""

    epochs: int
    batch_size: int
    seed: int
    checkpoint_steps: int | None
    verbose: int | str


@dataclass(frozen=True)
class _Alone:
    """Keras's own loop, in one process without a strategy."""

    model: Any
    team: Team

    def fit(self, batches: Any, **options: Any) -> float:
        log = self.model.fit(batches, shuffle=False, **options)
        return float(log.history["loss"][0])


def _index(model: Any, data: Dataset) -> Index:
    """The items of a trained model, by what their ids stand for."""
    vectors = model.item_embeddings()
    return Index(vectors[1:], data.values.get(data.item, np.arange(len(vectors)))[1:])


def _epoch(
    trainer: Replicated | _Alone, data: Dataset, watch: Watch, run: Run, plan: _Plan, epoch: int
) -> dict[str, Any]:
    """Train one epoch, or the rest of one, and validate; its record in the history."""
    model, team, size = trainer.model, trainer.team, plan.batch_size
    before = run.halfway or {"step": 0, "loss": 0.0}
    start, steps = before["step"], team.steps(data.train, size)

    def reseed(step: int) -> None:
        # Replicas of other processes draw other masks.
        place = [step] if step else []
        compat.reseed(model, plan.seed, epoch, *place, *([team.worker] if team.worker else []))

    def mean(loss: float, rows: int) -> float:
        had = start * size
        return (before["loss"] * had + loss * rows) / (had + rows)

    def keep(step: int, loss: float) -> None:
        loss = mean(loss, (step - start) * size)
        place = {"epoch": epoch + 1, "step": step, "loss": loss, "workers": team.workers}
        run.commit_step(model, place)
        reseed(step)

    reseed(start)
    every = plan.checkpoint_steps
    # One `fit` an epoch, since each has batches of its own; the watch ends it after the first.
    loss = trainer.fit(
        team.batches(data.train, size, plan.seed, epoch, start),
        epochs=plan.epochs,
        initial_epoch=epoch,
        verbose=plan.verbose,
        callbacks=[*([Keeper(keep, every, start, steps)] if every else []), watch],
    )
    seconds = watch.step_seconds or watch.seconds / (steps - start)
    return {
        "epoch": epoch + 1,
        "loss": mean(loss, min(len(data.train), steps * size) - start * size),
        **{f"validation_{name}": value for name, value in watch.validation.items()},
        "seconds": watch.seconds,
        "samples_per_second": min(size, len(data.train)) / seconds,
        "ms_per_step": 1e3 * seconds,
    }


@contextlib.contextmanager
def _folder(out: str | os.PathLike[str] | None) -> Iterator[Path]:
    if out is not None:
        yield Path(out).expanduser()
        return
    with tempfile.TemporaryDirectory(prefix="recops-") as folder:
        yield Path(folder)
