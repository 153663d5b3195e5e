"""The callback that times the steps of an epoch, judges the model, and ends the epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core.compat import keras


class Watch(keras.callbacks.Callback):
    """Times the steps, validates when they are done, and ends `fit` there."""

    def __init__(
        self, criterion: str, judge: Callable[[], dict[str, float]], full_steps: int
    ) -> None:
        super().__init__()
        self.criterion = criterion
        self.judge = judge
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
        self.validation = self.judge()
        if logs is not None:
            logs[f"val_{self.criterion}"] = self.validation[self.criterion]
        self.model.stop_training = True


def _now() -> float:
    tf.test.experimental.sync_devices()
    return time.perf_counter()
