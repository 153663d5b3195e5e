"""Where a train step goes, by leaving parts of it out, and what recops would change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from recops._core.compat import keras
from recops.accelerate import accelerate
from recops.profiling import parts, stopwatch
from recops.profiling.profile_report import Advice, Layer, Profile

# A layer that takes at most so many times as long as its products and bytes need is at its floor.
_AT_FLOOR = 5.0
# A step on one row that takes this much of a whole one: what is left is starting ops.
_STARTING = 0.6
_STEP, _NO_TABLES, _NO_OPTIMIZER = "step", "tables stay", "no optimizer"
_FORWARD, _EMPTY, _ONE_ROW, _INPUT = "forward", "empty", "one row", "input"


def profile(model: Any, batch_or_dataset: Any, steps: int = 50, *, advise: bool = True) -> Profile:
    """Where a train step of a Keras model goes: input, tables, ops, products, dispatch.

    Each part is what the step takes less without it: with a batch that is held, with tables that
    stay where they are, without the optimizer. Layers run alone on the inputs that they have in the
    model, forward and backward; where they add up to more than they take in the step, which may
    fuse them or run them side by side, they are scaled to it, and what they do not account for is
    the rest. All are timed in turns, under the model's own `jit_compile`.

    Args:
      model: any `keras.Model`, ours or not. One that is not compiled steps with Keras's Adam on the
        mean square of its outputs, which `notes` says. Weights and the optimizer's state are as
        before afterwards; they are held twice meanwhile.
      batch_or_dataset: (inputs, labels) or (inputs, labels, weights); inputs alone, for which
        labels of 0 and 1 are drawn; or batches of these: a `tf.data.Dataset`, a Keras sequence, an
        iterator. The first one is held, and what it takes to get the others is the input.
      steps: most rounds of each part; at least 7 are taken, and about 12 seconds in all.
      advise: ask `recops.accelerate` what it would change, and what the step would take then.

    Defaults: steps=50, advise=True.

    Returns: Profile.

    Raises: TypeError for what is no Keras model; ValueError for steps below 1 and for no batch.

    Example:
      >>> import numpy as np, recops
      >>> from recops._core.compat import keras
      >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
      >>> model.compile("adam", "mse")
      >>> batch = np.ones((8, 4), "float32"), np.ones((8, 1), "float32")
      >>> found = recops.profiling.profile(model, batch, steps=1, advise=False)
      >>> round(sum(found.shares.values()), 6)
      1.0
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"profile: expected a keras.Model, got {type(model).__name__}")
    if steps < 1:
        raise ValueError(f"profile: steps must be 1 or more, got {steps}")
    stepper, more, notes = _stepper(model, batch_or_dataset)
    with stepper.restored():
        measured = _Measured(stepper, more, steps, notes)
    advice = _advice(model, stepper.data[0], notes) if advise else ()
    return measured.profile(advice, tuple(notes))


def trace(model: Any, batch_or_dataset: Any, folder: Any, steps: int = 5) -> None:
    """Write TensorFlow's trace of some train steps, each marked, for TensorBoard's Profile page.

    Args:
      model, batch_or_dataset: as of `profile`; weights are as before afterwards.
      folder: of the trace, plugins/profile/TIME in it.
      steps: how many, after one that does not count.

    Defaults: steps=5.
    """
    stepper, _, _ = _stepper(model, batch_or_dataset)
    with stepper.restored():
        step = stepper.whole()
        step()
        tf.profiler.experimental.start(str(folder))
        try:
            for number in range(steps):
                with tf.profiler.experimental.Trace("train", step_num=number, _r=1):
                    step()
        finally:
            tf.profiler.experimental.stop()


def _stepper(model: Any, given: Any) -> tuple[parts.Stepper, Any, list[str]]:
    """The model on its first batch, what gets the next one, and what is assumed."""
    notes: list[str] = []
    held, more = _batches(given)
    inputs = _tensors(held[0])
    outputs = model(inputs, training=False)
    labels, weights = held[1], held[2]
    if labels is None:
        labels = _labels(outputs)
        notes.append("labels of 0 and 1 were drawn")
    data = _tensors((inputs, labels, weights))
    stepper = parts.Stepper(model, data)
    if not stepper.compiled:
        notes.append("not compiled: Keras's Adam on the mean square of the outputs is assumed")
    if stepper.jit:
        notes.append("compiled by XLA: layers are fused in the step, and not where they run alone")
    return stepper, more, notes


def _batches(given: Any) -> tuple[tuple[Any, Any, Any], Callable[[], Any] | None]:
    """The first batch, and a function that gets the next one where there are more."""
    if _is_batch(given):
        return _parted(given), None
    source: Iterator[Any] = iter(given)

    def following() -> Any:
        nonlocal source
        try:
            return next(source)
        except StopIteration:
            source = iter(given)
            return next(source)

    try:
        first = following()
    except StopIteration:
        raise ValueError("profile: the data set has no batch") from None
    return _parted(first), following


def _is_batch(given: Any) -> bool:
    return isinstance(given, (tuple, list, Mapping, np.ndarray)) or tf.is_tensor(given)


def _parted(batch: Any) -> tuple[Any, Any, Any]:
    if not isinstance(batch, tuple):
        return batch, None, None
    inputs, labels, weights = (*batch, None, None)[:3]
    return inputs, labels, weights


def _tensors(data: Any) -> Any:
    """Arrays as tensors, with float32 for float64, which NumPy makes of plain numbers."""

    def tensor(value: Any) -> Any:
        if value is None:
            return None
        made = tf.convert_to_tensor(value)
        return tf.cast(made, tf.float32) if made.dtype == tf.float64 else made

    return tf.nest.map_structure(tensor, data)


def _labels(outputs: Any) -> Any:
    random = np.random.default_rng(0)
    return tf.nest.map_structure(
        lambda out: tf.constant(random.integers(0, 2, tuple(out.shape)), tf.float32), outputs
    )


class _Measured:
    """The times of one run, in milliseconds of a quiet moment (the 20th percentile)."""

    def __init__(self, stepper: parts.Stepper, more: Any, steps: int, notes: list[str]) -> None:
        self.stepper = stepper
        self.gradients = stepper.gradients()
        self.units = parts.units(stepper.model, stepper.data[0])
        everything = list(stepper.model.trainable_variables)
        timed: dict[Any, parts.Run] = {
            _STEP: stepper.whole(),
            _NO_TABLES: stepper.without_moving(self.gradients.tables),
            _NO_OPTIMIZER: stepper.without_moving(everything),
            _FORWARD: stepper.forward(),
            _EMPTY: stepper.empty(),
        }
        try:
            row = tf.nest.map_structure(lambda x: None if x is None else x[:1], stepper.data)
            timed[_ONE_ROW] = stepper.without_moving(everything, row)
            timed[_ONE_ROW]()
        except (ValueError, tf.errors.OpError):
            timed.pop(_ONE_ROW, None)
            notes.append("it does not step on one row, so dispatch is that of a call alone")
        if more is not None:
            timed[_INPUT] = self._reading(more)
        for place, unit in enumerate(self.units):
            try:
                for backward in (False, True):
                    timed[place, backward] = parts.alone(unit, stepper.jit, backward)
            # A layer may need what is around it in the model; it is part of the rest then.
            except (ValueError, TypeError, LookupError, tf.errors.OpError) as error:
                timed.pop((place, False), None)
                said = str(error).strip().splitlines() or [type(error).__name__]
                notes.append(f"{unit.name} does not run alone and is in the rest: {said[0][:120]}")
        found = stopwatch.interleave(timed, seconds=12.0, max_rounds=max(steps, 1), warmup=1)
        self.ms: dict[Any, float] = {name: timing.p20_ms for name, timing in found.items()}
        self.rates = stopwatch.rates()

    def _reading(self, more: Callable[[], Any]) -> parts.Run:
        """Whole steps of batches as they come; those of another size are passed over."""
        step, wanted = self.stepper.taking(), _shapes(self.stepper.data)

        def run() -> Any:
            for _ in range(3):
                inputs, labels, weights = _parted(more())
                labels = self.stepper.data[1] if labels is None else labels
                data = _tensors((inputs, labels, weights))
                if _shapes(data) == wanted:
                    return step(data)
            raise ValueError("profile: the batches of the data set have different shapes")

        return run

    def profile(self, advice: Sequence[Advice], notes: tuple[str, ...]) -> Profile:
        """The times as parts of a whole."""
        ms = self.ms
        total = max(ms[_STEP], ms.get(_INPUT, 0.0))
        step = ms[_STEP]
        still = min(ms[_NO_OPTIMIZER], step)
        tables_moved = min(max(step - ms[_NO_TABLES], 0.0), step - still)
        if not self.gradients.tables:
            tables_moved = 0.0
        dispatch = min(ms[_EMPTY], still)
        # Three arrays read and written, of Adam's; what takes longer is starting its ops.
        least = self.rates.floor_ms(0, 24.0 * self._other_weights())
        starting = ms.get(_ONE_ROW, dispatch) + max(step - still - tables_moved - least, 0.0)
        layers = self._layers(still - dispatch)
        of = {kind: sum(x.share_ms for x in layers if x.kind == kind) for kind in ("table", "op")}
        products = sum(x.share_ms for x in layers if x.kind == "products")
        whole = {
            "input": total - step,
            "tables": tables_moved + of["table"],
            "optimizer": step - still - tables_moved,
            "ops": of["op"],
            "products": products,
            "dispatch": dispatch,
            "rest": max(still - dispatch - sum(layer.share_ms for layer in layers), 0.0),
        }
        added = sum(whole.values())
        return Profile(
            step_ms=total,
            forward_ms=ms[_FORWARD],
            backward_ms=max(still - ms[_FORWARD], 0.0),
            tables_moved_ms=tables_moved,
            optimizer=type(self.stepper.optimizer).__name__,
            shares={name: value / added for name, value in whole.items()},
            layers=tuple(layers),
            advice=tuple(advice),
            table_rows=self.gradients.rows,
            rows_used=self.gradients.used,
            starting_ms=starting,
            starting=starting / total >= _STARTING,
            notes=notes,
            batch_size=int(tf.nest.flatten(self.stepper.data[0])[0].shape[0]),
            jit=self.stepper.jit,
            threads=stopwatch.threads(),
        )

    def _other_weights(self) -> int:
        tables = {id(table) for table in self.gradients.tables}
        weights = self.stepper.model.trainable_variables
        return sum(tf.TensorShape(w.shape).num_elements() for w in weights if id(w) not in tables)

    def _layers(self, available: float) -> list[Layer]:
        """The layers, scaled down to what they can take in the step."""
        found = []
        for place, unit in enumerate(self.units):
            if (place, True) not in self.ms:
                continue
            forward = max(self.ms[place, False] - self.ms[_EMPTY], 0.0)
            both = max(self.ms[place, True] - self.ms[_EMPTY], forward)
            flops, moved = parts.floor(unit, self.gradients.tables)
            least = self.rates.floor_ms(flops, moved)
            kind = self._kind(unit, both, least, flops)
            first = type(unit.layers[0]).__name__
            found.append(Layer(unit.name, first, kind, forward, both - forward, least, both))
        added = sum(layer.share_ms for layer in found)
        scale = min(1.0, available / added) if added else 1.0
        found = [layer._replace(share_ms=layer.share_ms * scale) for layer in found]
        return sorted(found, key=lambda layer: -layer.share_ms)

    def _kind(self, unit: parts.Unit, both: float, least: float, flops: float) -> str:
        tables = {id(table) for table in self.gradients.tables}
        if any(id(weight) in tables for layer in unit.layers for weight in layer.weights):
            return "table"
        return "products" if flops and both <= _AT_FLOOR * least else "op"


def _shapes(data: Any) -> list[Any]:
    return [None if x is None else tuple(x.shape) for x in tf.nest.flatten(data)]


def _advice(model: Any, inputs: Any, notes: list[str]) -> tuple[Advice, ...]:
    """What `accelerate` would change, as it measured that itself."""
    try:
        _, report = accelerate(model, batch=inputs)
    except (ValueError, TypeError, tf.errors.OpError) as error:
        notes.append(f"no advice: {str(error).strip().splitlines()[0]}")
        return ()
    if not report.swapped or report.ms_before is None or report.ms_after is None:
        notes.append("recops.accelerate would change nothing that pays")
        return ()
    changes = tuple(f"{row.layer}: {row.was} -> {row.now}" for row in report.swapped)
    return (Advice(changes, report.ms_before, report.ms_after),)
