"""Share of the input pipeline in a train step: the same step with its batch already in memory.

    python bench/input.py [MODEL ...] [--data NAME] [--batch-size N] [--seconds S] [--out FILE]

A step on batches of the pipeline (shuffled, new every step) and a step on one batch that is there
are timed in turns. The bar is 10 %.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from recops import profiling, training
from recops.data import Dataset
from recops.models import CATALOGUE
from recops.version import __version__

MODELS = ("LSPLM", "FM", "DeepFM", "DIN")
BAR = 0.1
STEPS = 20
COLUMNS = ("model", "batch", "in_memory_ms", "pipeline_ms", "input_alone_ms", "share")


def steps(model: Any, batches: tf.data.Dataset) -> Callable[[], object]:
    """A function that trains `STEPS` steps on endless batches."""
    model.make_train_function()
    iterator = iter(batches)

    def run() -> object:
        for _ in range(STEPS):
            done = model.train_function(iterator)
        return done

    return run


def pulls(batches: tf.data.Dataset) -> Callable[[], object]:
    """A function that takes `STEPS` batches and does nothing with them."""
    iterator = iter(batches)

    def run() -> object:
        for _ in range(STEPS):
            batch = next(iterator)
        return batch[1]

    return run


def measure(name: str, data: Dataset, batch_size: int, seconds: float) -> dict[str, Any]:
    """Milliseconds a step of a model, and the share of them that its input costs."""
    model = training.build(name, data)
    part = data.select(model.input).train if isinstance(model.input, dict) else data.train
    if len(part) < batch_size:
        raise ValueError(f"a batch of {batch_size} needs as many train rows, there are {len(part)}")
    pipeline = part.batches(batch_size, shuffle=True, drop_remainder=True).repeat()
    ready = tf.data.Dataset.from_tensors(next(iter(pipeline))).repeat()
    timed = profiling.interleave(
        {
            "in_memory_ms": steps(model, ready),
            "pipeline_ms": steps(model, pipeline),
            "input_alone_ms": pulls(pipeline),
        },
        seconds=seconds,
    )
    row = {what: timing.median_ms / STEPS for what, timing in timed.items()}
    share = 1 - row["in_memory_ms"] / row["pipeline_ms"]
    return {"model": name, "batch": batch_size, **row, "share": share}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """One line a model."""
    lines = ["  ".join(f"{column:>14}" for column in COLUMNS)]
    for row in rows:
        cells = [row["model"], str(row["batch"])]
        cells += [f"{row[column]:.3f}" for column in COLUMNS[2:5]] + [f"{row['share']:.1%}"]
        lines.append("  ".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and say which models are above the bar."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help=f"default: {' '.join(MODELS)}")
    parser.add_argument("--data", default="movielens-100k", help="as of `recops train`")
    parser.add_argument("--batch-size", type=int, help="default: the model's own")
    parser.add_argument("--seconds", type=float, default=10.0, help="a model (10)")
    parser.add_argument("--out", type=Path, metavar="FILE.jsonl", help="one JSON row a model")
    options = parser.parse_args(arguments)
    names = options.models or list(MODELS)
    if unknown := [name for name in names if name not in CATALOGUE]:
        parser.error(f"expected models among {', '.join(CATALOGUE)}, got {', '.join(unknown)}")
    sets: dict[str, Dataset] = {}
    rows = []
    for name in names:
        task = CATALOGUE[name].task
        if task not in sets:
            sets[task] = training.dataset(options.data, task)
        size = options.batch_size or training.TRAINING[name].batch_size
        rows.append(measure(name, sets[task], size, options.seconds))
    print(table(rows))
    above = [row["model"] for row in rows if row["share"] > BAR]
    print(f"above the bar of {BAR:.0%}: {', '.join(above) or 'none'}")
    if options.out is not None:
        threads = tf.config.threading.get_intra_op_parallelism_threads()
        extra = {"data": options.data, "recops": __version__, "threads": threads}
        options.out.write_text("".join(json.dumps({**row, **extra}) + "\n" for row in rows))


if __name__ == "__main__":
    main()
