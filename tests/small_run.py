"""A small data set and a model with dropout, for tests of training in this and another process."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import tensorflow as tf

from recops import training
from recops.data import Dataset, Split
from recops.models import DeepFM
from recops.training.watch import Watch
from tests.models import planted_retrieval
from tests.models.planted import FEATURES, SEQUENCES, data


def dataset(task: str = "ranking") -> Dataset:
    """The planted set in three parts of 1600, 90 and 90 rows, or that of choices."""
    if task in ("retrieval", "leave_one_out", "next_click"):
        return getattr(planted_retrieval, task)()
    parts = []
    for rows, seed in ((1600, 0), (90, 1), (90, 2)):
        batch, labels = data(rows, seed)
        parts.append(Split(batch, labels, groups=batch["noise"]))
    return Dataset(*parts, SEQUENCES if task == "sequence" else FEATURES)


def model(**options: Any) -> Any:
    """A DeepFM whose every epoch draws dropout masks."""
    made = DeepFM(FEATURES, hidden_units=[16, 8], dropout=0.3, seed=1, **options)
    made.compile(tf.keras.optimizers.Adam(0.02), "binary_crossentropy", jit_compile=False)
    return made


def run(out: Path | None, epochs: int = 4, **options: Any) -> training.Result:
    """Train it."""
    options = {"batch_size": 64, "patience": 10, "seed": 5, "verbose": 0, **options}
    return training.train(model(), dataset(), epochs=epochs, out=out, **options)


def figures(result: training.Result) -> list[dict[str, float]]:
    """The history without what a clock says."""
    clock = ("seconds", "samples_per_second", "ms_per_step")
    return [{k: v for k, v in epoch.items() if k not in clock} for epoch in result.epochs]


def _die_in_third_epoch(watch: Any, batch: int, logs: Any = None) -> None:
    watch.steps_seen = getattr(type(watch), "steps_seen", 0) + 1
    type(watch).steps_seen = watch.steps_seen
    if watch.steps_seen == 2 * 25 + 12:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    Watch.on_train_batch_end = _die_in_third_epoch
    run(Path(sys.argv[1]))
