"""An epoch under a strategy: what `fit` does in one process, with Keras 3 in several."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from recops._core import compat
from recops._core.compat import keras
from recops.training.team import Team


class Replicated:
    """The training step of a compiled model on all replicas of a strategy.

    Keras 3's `fit` fails in several processes, where it cannot reduce its metrics. Each replica has
    the gradient of its rows; dense ones are summed by an all-reduce, those of tables are gathered
    as rows and values, which the row-sparse optimizers sum once: a table never goes over the wire.

    Args:
      model: made and compiled in the scope of the strategy.
      team: of that strategy.

    Raises: ValueError for another Keras than 3, or a model with metrics of its own.
    """

    def __init__(self, model: Any, team: Team) -> None:
        if not compat.KERAS_3:
            raise ValueError(
                f"train: under a strategy the loop is that of Keras 3, and this is "
                f"{compat.legacy_keras()}, whose model.fit runs under it"
            )
        self.model = model
        self.team = team
        with team.strategy.scope():
            if not compat.is_built(model.optimizer):
                model.optimizer.build(model.trainable_variables)
        self._step = tf.function(self._on_all, reduce_retracing=True)

    def fit(
        self,
        batches: tf.data.Dataset,
        *,
        epochs: int,
        initial_epoch: int,
        callbacks: list[Any],
        verbose: int | str,
        **_: Any,
    ) -> float:
        """One epoch; the mean loss of its rows."""
        verbose = int(verbose) if self.team.chief else 0
        calls = keras.callbacks.CallbackList(
            callbacks,
            add_progbar=verbose != 0,
            model=self.model,
            epochs=epochs,
            verbose=verbose,
            steps=int(batches.cardinality()),
        )
        calls.on_train_begin()
        calls.on_epoch_begin(initial_epoch)
        total, rows = tf.zeros([], tf.float64), 0
        logs: dict[str, Any] = {}
        for step, batch in enumerate(batches):
            calls.on_train_batch_begin(step)
            count = len(batch[1])
            total += tf.cast(self._step(self.team.by_replica(batch)), tf.float64) * count
            rows += count
            # A number would wait for the step: who wants one asks.
            logs = {"loss": total / rows}
            calls.on_train_batch_end(step, logs)
        logs = {name: float(value) for name, value in logs.items()}
        calls.on_epoch_end(initial_epoch, logs)
        calls.on_train_end(logs)
        return logs.get("loss", np.nan)

    def _on_all(self, batch: Any) -> tf.Tensor:
        losses = self.team.strategy.run(self._on_one, args=batch)
        # Each is a part of the mean already.
        return self.team.strategy.reduce("sum", losses, axis=None)

    def _on_one(self, inputs: Any, labels: tf.Tensor) -> tf.Tensor:
        model, optimizer = self.model, self.model.optimizer
        with tf.GradientTape() as tape:
            outputs = model(inputs, training=True)
            loss = model.compute_loss(inputs, labels, outputs, training=True)
            scaled = optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return loss
