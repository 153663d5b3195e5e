"""What swaps are worth: inference and train steps of several copies, in turns."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from recops._core import compat
from recops.accelerate.copying import Copy
from recops.profiling.stopwatch import interleave

# What a shared machine makes of two equal programs.
NOISE = 1.03


class Times(NamedTuple):
    """Milliseconds of a model: a train step, and inference.

    They are those of a quiet moment, the 20th percentile: other work on the machine makes a step
    longer and never shorter.
    """

    step: float
    forward: float

    def best(self, other: Times) -> Times:
        """The shorter ones of two runs."""
        return Times(min(self.step, other.step), min(self.forward, other.forward))

    def pays(self, without: Times) -> bool:
        """Whether neither is slower than that of the model without a swap."""
        return self.step <= without.step * NOISE and self.forward <= without.forward * NOISE


class Candidate(NamedTuple):
    """A copy with its weights loaded, and its optimizer, or None for gradients alone."""

    copy: Copy
    optimizer: Any


def measure(
    candidates: Mapping[str, Candidate], batch: Any, *, jit: bool, seconds: float = 3.0
) -> dict[str, Times]:
    """The times of each candidate, all of them in one run.

    The train step is that of a scalar of the outputs: it holds the forward, the backward and the
    optimizer, and not the model's loss, which is the same for all.
    """
    forwards = {name: _forward(each, batch, jit) for name, each in candidates.items()}
    steps = {name: _step(each, batch, jit) for name, each in candidates.items()}
    forward = interleave(forwards, seconds=seconds, max_rounds=25)
    step = interleave(steps, seconds=seconds, max_rounds=25)
    return {name: Times(step[name].p20_ms, forward[name].p20_ms) for name in candidates}


def _forward(candidate: Candidate, batch: Any, jit: bool) -> Callable[[], object]:
    @tf.function(jit_compile=jit)
    def run(inputs: Any) -> Any:
        return candidate.copy.model(inputs, training=False)

    # Called directly, TensorFlow would warn that each candidate is traced.
    return functools.partial(run.get_concrete_function(batch), batch)


def _step(candidate: Candidate, batch: Any, jit: bool) -> Callable[[], object]:
    model, optimizer = candidate.copy.model, candidate.optimizer
    weights = list(model.trainable_variables)
    if hasattr(optimizer, "build"):  # The legacy ones of tf_keras make their state as they step.
        optimizer.build(weights)

    @tf.function(jit_compile=jit)
    def run(inputs: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs = tf.nest.flatten(model(inputs, training=True))
            scalars = [tf.reduce_mean(tf.square(tf.cast(out, tf.float32))) for out in outputs]
            losses = [tf.cast(loss, tf.float32) for loss in model.losses]
            scalar = tf.add_n([*scalars, *losses])
        gradients = tape.gradient(scalar, [compat.variable(weight) for weight in weights])
        pairs = [(g, w) for g, w in zip(gradients, weights) if g is not None]
        if optimizer is None or not pairs:
            return gradients
        optimizer.apply_gradients(pairs)
        return scalar

    return functools.partial(run.get_concrete_function(batch), batch)
