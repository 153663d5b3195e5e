"""The replicas that train one model, in one process or several, and what these tell each other."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from recops._core import compat
from recops.data.dataset import Split
from recops.data.streaming import Stream

_STRATEGIES = (tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy)


class LostWorkerError(RuntimeError):
    """Another process of the training is gone; all must be started again."""

    # That of a failure which may pass, by which who watches over a command starts it again.
    exit_code = getattr(os, "EX_TEMPFAIL", 75)


@dataclass(frozen=True)
class Team:
    """The processes of a strategy: this one's number, the chief's being 0, and how many there are.

    Only the chief reads and writes the folder of a run, and judges the model.
    """

    strategy: Any = None
    worker: int = 0
    workers: int = 1

    @classmethod
    def of(cls, model: Any) -> Team:
        """That of the strategy in whose scope a model was made."""
        strategy = getattr(model, "distribute_strategy", None)
        return cls.under(strategy) if isinstance(strategy, _STRATEGIES) else cls()

    @classmethod
    def under(cls, strategy: Any) -> Team:
        """That of a strategy."""
        resolver = strategy.cluster_resolver
        jobs = resolver.cluster_spec().as_dict() if resolver else {}
        if not jobs:
            return cls(strategy)
        chiefs = len(jobs.get("chief", ()))
        place = resolver.task_id + (0 if resolver.task_type == "chief" else chiefs)
        return cls(strategy, place, chiefs + len(jobs.get("worker", ())))

    @property
    def chief(self) -> bool:
        return self.worker == 0

    @property
    def replicas(self) -> int:
        return self.strategy.num_replicas_in_sync if self.strategy else 1

    def check(self, batch_size: int) -> None:
        """Raise ValueError unless each replica has as many rows of a batch."""
        if batch_size < self.replicas:
            raise ValueError(
                f"train: a batch of {batch_size} rows is smaller than the {self.replicas} replicas"
            )
        if rest := batch_size % self.replicas:
            raise ValueError(
                f"train: batch_size must be a multiple of the {self.replicas} replicas, got "
                f"{batch_size}; take {batch_size - rest} or {batch_size - rest + self.replicas}"
            )

    def told(self, value: Any) -> Any:
        """What the chief calls with, in all processes; plain values, as JSON has them."""
        if self.workers == 1:
            return value
        text = json.dumps(value).encode() if self.chief else b""
        length = int(self._from_chief(np.array(len(text), np.int32)))
        padded = np.frombuffer(text.ljust(length), np.uint8).astype(np.int32)
        return json.loads(self._from_chief(padded).astype(np.uint8).tobytes())

    def share(self, model: Any) -> None:
        """Give all processes the chief's weights and optimizer."""
        if self.workers > 1:
            for variable in (*model.variables, *_state(model.optimizer)):
                # Of dropout each has its own.
                if variable.dtype != "uint32":
                    variable.assign(self._from_chief(np.asarray(variable.numpy())))

    def _from_chief(self, value: np.ndarray) -> np.ndarray:
        mine = tf.constant((value if self.chief else np.zeros_like(value)).reshape(-1))
        return self._sums[mine.dtype](mine).numpy().reshape(value.shape)

    @cached_property
    def _sums(self) -> dict[tf.DType, Any]:
        """By type, the sum over all processes of a tensor [n]."""

        def summed(value: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            share = self.replicas // self.workers
            first = tf.equal(context.replica_id_in_sync_group % share, 0)
            return context.all_reduce("sum", tf.where(first, value, tf.zeros_like(value)))

        def run(value: tf.Tensor) -> tf.Tensor:
            found = self.strategy.run(summed, args=(value,))
            return self.strategy.experimental_local_results(found)[0]

        kinds = (tf.float32, tf.float64, tf.float16, tf.bfloat16, tf.int32, tf.int64)
        return {k: tf.function(run, input_signature=[tf.TensorSpec([None], k)]) for k in kinds}

    def steps(self, split: Split, batch_size: int) -> int:
        """Batches of an epoch, which are as many in each process.

        Rows of the last batch that are no multiple of the replicas are left out. Of shards each
        process has its own, and all take as many whole batches as the one with the fewest rows.
        """
        if self.workers > 1 and isinstance(split, Stream):
            parts = [split.of_worker(worker, self.workers) for worker in range(self.workers)]
            steps = min(map(len, parts)) // (batch_size // self.workers)
            if not steps:
                raise ValueError(
                    f"train: the shards of one of {self.workers} workers have "
                    f"{min(map(len, parts))} rows, and its part of a batch is "
                    f"{batch_size // self.workers}; take smaller batches, or encode in more shards"
                )
            return steps
        full, rest = divmod(len(split), batch_size)
        return full + (rest >= self.replicas)

    def batches(
        self, split: Split, batch_size: int, seed: int, epoch: int, start: int
    ) -> tf.data.Dataset:
        """This process's part of each batch of an epoch, from the batch `start` on."""
        if isinstance(split, Stream):
            part, size = split, batch_size
            if self.workers > 1:
                part = split.of_worker(self.worker, self.workers)
                size = batch_size // self.workers
            found = part.batches(size, shuffle=True, seed=seed, epoch=epoch, start=start)
        else:
            found = split.batches(batch_size, shuffle=True, seed=seed, epoch=epoch)
            found = found.skip(start) if start else found
        if self.strategy is None:
            return found
        found = found.take(self.steps(split, batch_size) - start)
        share = self.replicas // self.workers
        if isinstance(split, Stream):
            return found.map(lambda *batch: _rows(batch, 0, share, share))
        first = self.worker * share
        return found.map(lambda *batch: _rows(batch, first, first + share, self.replicas))

    def by_replica(self, batch: Any) -> Any:
        """A part of a batch for each replica of this process."""
        share = self.replicas // self.workers
        if share == 1:
            return batch
        first = self.worker * share

        def of(context: Any) -> Any:
            place = context.replica_id_in_sync_group - first
            return _rows(batch, place, place + 1, share)

        return self.strategy.experimental_distribute_values_from_function(of)


def _state(optimizer: Any) -> list[Any]:
    """All state of an optimizer, and of those that are inside it."""
    inner = getattr(optimizer, "inner_optimizer", None)
    inside = [inner] if inner is not None else getattr(optimizer, "optimizers", [])
    return [*compat.variables_of(optimizer), *(v for each in inside for v in _state(each))]


def _rows(batch: Any, start: int, stop: int, parts: int) -> Any:
    """The rows of the parts start to stop of a batch that is cut into so many equal parts."""
    size = tf.shape(tf.nest.flatten(batch)[0])[0] // parts
    return tf.nest.map_structure(lambda values: values[start * size : stop * size], batch)


def predictions(model: Any, batches: tf.data.Dataset) -> np.ndarray:
    """Of all rows, by this process alone: `predict` of a strategy deals rows out to all of them."""
    if Team.of(model).strategy is None:
        return model.predict(batches, verbose=0)
    return np.concatenate([np.asarray(model(inputs, training=False)) for inputs, _ in batches])


def lost(error: Exception) -> LostWorkerError:
    """The error of a collective that another process has left."""
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return LostWorkerError(
        f"train: another task of the training is gone ({first}); start all tasks again with "
        f"--resume: they go on behind the last state that was kept"
    )


GONE = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)
