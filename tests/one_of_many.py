"""Steps of DeepFM in one of several processes, or in one alone on the same batches.

python -m tests.one_of_many DATA OUT alone WORKERS | together: the losses of the steps, as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from recops import training
from recops._core import compat
from recops._core.compat import keras
from recops.data import Dataset
from recops.data.streaming import Stream
from recops.models import DeepFM
from recops.optimizers import LazyAdam
from recops.training.strategies import team_of
from recops.training.team import Team

ROWS, STEPS = 48, 100


def made(data: Dataset) -> Any:
    """A model without dropout, whose masks differ by process."""
    model = DeepFM(
        training.sized(data, 8),
        hidden_units=[32, 16],
        l2_embedding=1e-3,
        l2_embedding_rows="batch",
        seed=1,
    )
    model.compile(LazyAdam(3e-3), "binary_crossentropy", jit_compile=False)
    return model


class Losses(keras.callbacks.Callback):
    """The loss of each step, of the means so far that Keras tells."""

    def __init__(self) -> None:
        super().__init__()
        self.sums = [0.0]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.sums.append(float(logs["loss"]) * (batch + 1))

    @property
    def found(self) -> list[float]:
        return np.diff(self.sums).tolist()


def batches(data: Dataset, team: Team, workers: int) -> tf.data.Dataset:
    """STEPS batches of this process; alone, those of so many workers put together."""
    split, size = data.train, ROWS // workers
    if team.strategy is None and isinstance(split, Stream):
        parts = [split.of_worker(worker, workers) for worker in range(workers)]
        each = [part.batches(size, shuffle=True) for part in parts]
        found = tf.data.Dataset.zip(tuple(each)).map(_together)
    else:
        found = team.batches(split, ROWS, 0, 0, 0)
    return found.take(STEPS)


def _together(*parts: Any) -> Any:
    return tf.nest.map_structure(lambda *values: tf.concat(values, axis=0), *parts)


def losses(spec: str, team: Team, workers: int) -> list[float]:
    data = training.dataset(spec, "ranking")
    seen = Losses()
    if team.strategy is None:
        model = made(data)
        model.fit(batches(data, team, workers), shuffle=False, verbose=0, callbacks=[seen])
        return seen.found
    from recops.training.replicated import Replicated

    with team.strategy.scope():
        model = made(data)
    Replicated(model, team).fit(
        batches(data, team, workers), epochs=1, initial_epoch=0, callbacks=[seen], verbose=0
    )
    return seen.found


if __name__ == "__main__":
    specs, out, how, *number = sys.argv[1:]
    assert compat.KERAS_3
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    team = Team() if how == "alone" else team_of("multi_worker", 60)
    found = {
        spec: losses(spec, team, int(number[0]) if number else team.workers)
        for spec in specs.split(",")
    }
    if team.chief:
        Path(out).write_text(json.dumps(found))
