"""Callbacks of an epoch: one times its steps, judges and ends it, one keeps states within it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recops._core.compat import keras


class Watch(keras.callbacks.Callback):
    """Times the steps, validates when they are done, and ends `fit` there.

    Args:
      criterion: which of the figures is shown.
      judge: gives the figures.
      full_steps: batches of full size.
      alone: whether this is one process: with others TensorFlow cannot wait for devices, and the
        loss of the step is waited for.
    """

    def __init__(
        self,
        criterion: str,
        judge: Callable[[], dict[str, float]],
        full_steps: int,
        alone: bool = True,
    ) -> None:
        super().__init__()
        self.alone = alone
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
            self._first = self._now(logs)
        elif batch == self.last:
            self.step_seconds = (self._now(logs) - self._first) / batch

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds = self._now(logs) - self._begun
        self.validation = self.judge()
        if logs is not None:
            logs[f"val_{self.criterion}"] = self.validation[self.criterion]
        self.model.stop_training = True

    def _now(self, logs: Any) -> float:
        if self.alone:
            tf.test.experimental.sync_devices()
        else:
            float((logs or {}).get("loss", 0.0))
        return time.perf_counter()


class Keeper(keras.callbacks.Callback):
    """Keeps the state after each `every` steps.

    Args:
      keep: is called with the step of the epoch and the mean loss of the steps since `start`.
      every: steps from one state to the next.
      start: steps of the epoch that were taken before; they are not in the numbers of batches.
      steps: of the whole epoch, after which the epoch itself is kept.
    """

    def __init__(
        self, keep: Callable[[int, float], None], every: int, start: int, steps: int
    ) -> None:
        super().__init__()
        self.keep = keep
        self.every = every
        self.start = start
        self.steps = steps

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        step = self.start + batch + 1
        if step % self.every == 0 and step < self.steps:
            self.keep(step, float(logs["loss"]))
