"""The models in three precisions on MovieLens 100K, into docs/mixed_precision.md.

    python bench/precision.py [MODEL ...] [--steps 200] [--seeds 0 1 2] [--batch-size N]
        [--backend B] [--forms CPU|GPU] [--rows FILE] [--doc FILE]

Each model is trained for the same steps from the same seeds in float32, mixed_bfloat16 and
mixed_float16. The run fails when the loss of any step is not finite, or when a test AUC, as the
mean over the seeds, is further from that of float32 than BAR. Each finished run is a line of FILE;
the last line of a model, precision and seed counts, and what stands there is not run again.
`--backend xla --forms GPU` runs, on a CPU, the programs that a GPU gets; its rows and its table
stand apart from the others.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from accuracy import append, read, write

import recops
from recops._core import device
from recops.data import Dataset, movielens_100k
from recops.models import CATALOGUE
from recops.training import PRECISIONS, TRAINING, build
from recops.training.evaluation import judgement, read_by
from recops.version import __version__

BAR = 0.003
BEGIN, END = "<!-- precision -->", "<!-- /precision -->"
ROOT = Path(__file__).resolve().parent
# By the forms that were asked for: where rows are kept, and the markers of their table.
KEPT = {
    "GPU": ("precision_gpu.jsonl", "<!-- precision on a GPU -->", "<!-- /precision on a GPU -->"),
    "": ("precision.jsonl", BEGIN, END),
}


class Finite(tf.keras.callbacks.Callback):
    """Counts the steps, and raises at the first whose loss is not finite."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.losses: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # Keras tells the mean since the epoch began, which one such loss spoils for good.
        self.losses.append(float(logs["loss"]))
        if not math.isfinite(self.losses[-1]):
            raise FloatingPointError(
                f"{self.name}: the loss of step {len(self.losses)} is {self.losses[-1]}"
            )


def run(
    name: str,
    precision: str,
    seed: int,
    data: Dataset,
    steps: int,
    batch_size: int | None = None,
) -> dict[str, Any]:
    """Train for so many steps and test."""
    model = build(name, data, seed=seed, precision=precision)
    scaled = "LossScale" in type(model.optimizer).__name__
    if scaled != (precision == "mixed_float16"):
        raise ValueError(f"{name} in {precision} is trained by {type(model.optimizer).__name__}")
    whole, data = data, read_by(model, data)
    watch = Finite(f"{name} in {precision}")
    batch_size = batch_size or TRAINING[name].batch_size
    epoch = 0
    while len(watch.losses) < steps:
        batches = data.train.batches(batch_size, shuffle=True, seed=seed, epoch=epoch)
        model.fit(
            batches.take(steps - len(watch.losses)), shuffle=False, verbose=0, callbacks=[watch]
        )
        epoch += 1
    judged = judgement(whole)
    return {
        "model": name,
        "precision": precision,
        "seed": seed,
        "steps": steps,
        "batch_size": batch_size,
        "loss": watch.losses[-1],
        "figure": judged.criterion,
        "test": judged.figures(model, whole, whole.test),
        "recops": __version__,
    }


_Runs = dict[str, dict[int, float]]


def latest(rows: Sequence[dict[str, Any]]) -> dict[str, _Runs]:
    """The test figure of each model, precision and seed, by the last row of each."""
    found: dict[str, _Runs] = {}
    for row in rows:
        runs = found.setdefault(row["model"], {}).setdefault(row["precision"], {})
        runs[row.get("seed", 0)] = row["test"][figure(row)]
    return found


def figure(row: dict[str, Any]) -> str:
    """Which figure of a row counts; rows of models that rank had no other."""
    return str(row.get("figure", "auc"))


def difference(runs: _Runs, precision: str) -> float:
    """How much higher the figure is than that of float32, as the mean over their common seeds."""
    plain, other = runs[PRECISIONS[0]], runs[precision]
    return statistics.mean(other[seed] - plain[seed] for seed in plain.keys() & other.keys())


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The test figure in float32, and how far the other precisions are from it."""
    steps = max((row["steps"] for row in rows), default=0)
    kinds = {row["model"]: (figure(row), row["batch_size"]) for row in rows}
    lines = [
        f"| model | figure | batch | seeds | {' | '.join(PRECISIONS)} |",
        f"|---|---|---|---|{'---|' * len(PRECISIONS)}",
    ]
    for name, runs in latest(rows).items():
        plain = runs[PRECISIONS[0]]
        cells = [f"{statistics.mean(plain.values()):.4f}"]
        cells += [
            f"{difference(runs, precision):+.4f}" if precision in runs else "not run"
            for precision in PRECISIONS[1:]
        ]
        kind, batch_size = kinds[name]
        lines.append(f"| {name} | {kind} | {batch_size} | {len(plain)} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"After {steps} steps."])


def main(arguments: Sequence[str] | None = None) -> int:
    """Train each in each precision, write the table, and say which are too far apart."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="names of models; all by default")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batch-size", type=int, help="that of the training by default")
    parser.add_argument("--backend", default="auto", help="that runs the ops (%(default)s)")
    parser.add_argument(
        "--forms", choices=device.KINDS, help="of which device; that of this machine by default"
    )
    parser.add_argument("--rows", type=Path, help="that of the forms in bench/results by default")
    parser.add_argument("--doc", type=Path, default=ROOT.parent / "docs" / "mixed_precision.md")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.models if name not in CATALOGUE]
    if unknown:
        parser.error(f"expected models among {', '.join(CATALOGUE)}, got {', '.join(unknown)}")
    names = options.models or list(CATALOGUE)
    kept, begin, end = KEPT["GPU" if options.forms == "GPU" else ""]
    options.rows = options.rows or ROOT / "results" / kept
    data = {task: movielens_100k(task) for task in {CATALOGUE[name].task for name in names}}
    done = latest(read(options.rows))
    for name, seed, precision in itertools.product(names, options.seeds, PRECISIONS):
        if seed in done.get(name, {}).get(precision, {}):
            continue
        whole = data[CATALOGUE[name].task]
        with contextlib.ExitStack() as chosen:
            chosen.enter_context(recops.backend(options.backend))
            if options.forms:
                chosen.enter_context(device.running_on(options.forms))
            row = run(name, precision, seed, whole, options.steps, options.batch_size)
        row |= {"backend": options.backend, "forms": options.forms or device.kind()}
        append(options.rows, row)
        print(json.dumps(row), flush=True)
    rows = read(options.rows)
    write(options.doc, table(rows), begin, end)
    print(table(rows))
    ranking = {row["model"] for row in rows if figure(row) == "auc"}
    far = [
        f"{name} in {precision}"
        for name, runs in latest(rows).items()
        for precision in runs
        if name in names and name in ranking and abs(difference(runs, precision)) > BAR
    ]
    if far:
        print(f"further than {BAR} from float32: {', '.join(far)}", file=sys.stderr)
    return 1 if far else 0


if __name__ == "__main__":
    sys.exit(main())
