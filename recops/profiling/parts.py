"""The parts of a train step, each as a function to time: steps without something, layers alone."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from recops._core import compat
from recops._core.compat import keras

Run = Callable[[], Any]


class Unit(NamedTuple):
    """Layers of one class, shape and size, and the calls that the model makes of them."""

    layers: list[Any]
    calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]]

    @property
    def name(self) -> str:
        """That of its first layer, and how many there are."""
        more = len(self.layers) - 1
        return self.layers[0].name + (f" and {more} more" if more else "")


class Gradients(NamedTuple):
    """What the gradients of one step are: of each table, its rows and those that a batch moves."""

    tables: list[Any]
    rows: int
    used: int | None


class Stepper:
    """A model's train steps on one batch, whole and without parts of it.

    Args:
      model: built; compiled, or it steps with Keras's Adam on the mean square of its outputs.
      data: (inputs, labels, weights) as tensors.
    """

    def __init__(self, model: Any, data: tuple[Any, Any, Any]) -> None:
        self.model, self.data = model, data
        self.compiled = compat.is_compiled(model)
        self.optimizer = model.optimizer if self.compiled else keras.optimizers.Adam()
        self.jit = self.compiled and bool(getattr(model, "jit_compile", False))
        if not compat.is_built(self.optimizer):
            self.optimizer.build(model.trainable_variables)

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Whatever is trained inside the block, weights and optimizer are as before after it."""
        held = {id(v): v for v in (*self.model.variables, *compat.variables_of(self.optimizer))}
        before = [(v, tf.identity(compat.variable(v))) for v in held.values()]
        try:
            yield
        finally:
            for variable, value in before:
                variable.assign(value)

    def gradients(self) -> Gradients:
        """Which weights are tables, and how many of their rows a step needs."""
        seen: list[tuple[Any, Any]] = []
        taken = self._traced(self.data, frozenset(), seen)()[1]
        gathered = [(w, g) for (w, _), g in zip(seen, taken) if isinstance(g, tf.IndexedSlices)]
        used = sum(int(tf.size(tf.unique(g.indices)[0])) for _, g in gathered)
        known = {id(weight) for weight, _ in gathered}
        # A penalty makes the gradient of a table one of all rows.
        named = [
            weight
            for weight, _ in seen
            if id(weight) not in known
            and len(weight.shape) == 2
            and compat.path_of(weight).rsplit("/", 1)[-1].startswith("embeddings")
        ]
        tables = [*(weight for weight, _ in gathered), *named]
        rows = sum(int(table.shape[0]) for table in tables)
        return Gradients(tables, rows, None if named else used)

    def whole(self, data: Any = None) -> Run:
        """Forward, backward and optimizer."""
        return self._traced(self.data if data is None else data, None, [])

    def taking(self) -> Callable[[Any], Any]:
        """A whole step of any batch of the same shapes."""
        return self._function(self.data, None, [])

    def without_moving(self, weights: Sequence[Any], data: Any = None) -> Run:
        """The step with all gradients, in which the optimizer leaves these weights alone."""
        moved = {id(weight) for weight in self.model.trainable_variables}
        moved -= {id(weight) for weight in weights}
        return self._traced(self.data if data is None else data, frozenset(moved), [])

    def forward(self) -> Run:
        """The outputs in training."""
        model = self.model

        @tf.function(jit_compile=self.jit, autograph=False)
        def run(inputs: Any) -> Any:
            return model(inputs, training=True)

        return functools.partial(run.get_concrete_function(self.data[0]), self.data[0])

    def empty(self) -> Run:
        """A function of the same batch that does nothing: what calling one takes."""

        @tf.function(jit_compile=self.jit, autograph=False)
        def run(data: Any) -> Any:
            return tf.constant(0.0)

        return functools.partial(run.get_concrete_function(self.data), self.data)

    def _traced(self, data: Any, moved: Any, seen: list[tuple[Any, Any]]) -> Run:
        return functools.partial(self._function(data, moved, seen), data)

    def _function(self, data: Any, moved: Any, seen: list[tuple[Any, Any]]) -> Any:
        @tf.function(jit_compile=self.jit, autograph=False)
        def run(batch: Any) -> Any:
            seen.clear()
            with _moving(self.optimizer, moved, seen):
                said = self._step(batch)
            # Gradients that nobody takes would not be computed.
            return said, [gradient for _, gradient in seen]

        return run.get_concrete_function(data)

    def _step(self, batch: Any) -> Any:
        if self.compiled:
            return self.model.train_step(batch)
        weights = list(self.model.trainable_variables)
        with tf.GradientTape() as tape:
            outputs = tf.nest.flatten(self.model(batch[0], training=True))
            squares = [tf.reduce_mean(tf.square(tf.cast(out, tf.float32))) for out in outputs]
            loss = tf.add_n([*squares, *(tf.cast(x, tf.float32) for x in self.model.losses)])
        found = tape.gradient(loss, [compat.variable(weight) for weight in weights])
        pairs = [(g, w) for g, w in zip(found, weights) if g is not None]
        self.optimizer.apply_gradients(pairs)
        return loss


@contextlib.contextmanager
def _moving(optimizer: Any, moved: Any, kept: list[tuple[Any, Any]]) -> Iterator[None]:
    """Have an optimizer move some weights alone (None: all), and keep the others' gradients."""
    if moved is None:
        yield
        return
    names = [name for name in ("apply_gradients", "apply") if hasattr(type(optimizer), name)]
    real = {name: getattr(optimizer, name) for name in names}

    def apply_gradients(pairs: Any, *args: Any, **kwargs: Any) -> Any:
        pairs = [(g, w) for g, w in pairs if g is not None]
        kept.extend((w, g) for g, w in pairs if id(w) not in moved)
        pairs = [(g, w) for g, w in pairs if id(w) in moved]
        return real["apply_gradients"](pairs, *args, **kwargs) if pairs else None

    def apply(grads: Any, trainable_variables: Any = None) -> Any:
        weights = trainable_variables
        weights = optimizer._trainable_variables if weights is None else weights
        pairs = [(g, w) for g, w in zip(grads, weights) if g is not None]
        kept.extend((w, g) for g, w in pairs if id(w) not in moved)
        pairs = [(g, w) for g, w in pairs if id(w) in moved]
        return real["apply"](*map(list, zip(*pairs))) if pairs else None

    replaced = {"apply_gradients": apply_gradients, "apply": apply}
    for name in names:
        object.__setattr__(optimizer, name, replaced[name])
    try:
        yield
    finally:
        for name in names:
            object.__delattr__(optimizer, name)


def units(model: Any, inputs: Any) -> list[Unit]:
    """The layers that a model calls itself or in nested models, with what they are called with.

    What a layer calls in turn is part of it, so that nothing counts twice.
    """
    watched = list(_outermost(model))
    calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []
    inside: list[Any] = []

    def watching(layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def watch(*args: Any, **kwargs: Any) -> Any:
            if not inside:
                calls.append((layer, args, kwargs))
            inside.append(layer)
            try:
                return call(*args, **kwargs)
            finally:
                inside.pop()

        return watch

    for layer in watched:
        object.__setattr__(layer, "call", watching(layer, layer.call))
    try:
        model(inputs, training=True)
    finally:
        for layer in watched:
            object.__delattr__(layer, "call")
    found: dict[str, Unit] = {}
    for layer, args, kwargs in calls:
        unit = found.setdefault(_alike(layer, args, kwargs), Unit([], []))
        if not any(layer is other for other in unit.layers):
            unit.layers.append(layer)
        unit.calls.append((layer, args, kwargs))
    return list(found.values())


def _outermost(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _outermost(layer)
        elif not isinstance(layer, keras.layers.InputLayer):
            yield layer


def _alike(layer: Any, args: Any, kwargs: Any) -> str:
    shapes = [tuple(v.shape) for v in tf.nest.flatten((args, kwargs)) if hasattr(v, "shape")]
    widths = [tuple(weight.shape)[1:] for weight in layer.weights]
    if not layer.weights:
        return str(id(layer))
    return f"{type(layer).__module__}.{type(layer).__qualname__} {shapes} {widths}"


def alone(unit: Unit, jit: bool, backward: bool) -> Run:
    """All calls of a unit with their real inputs: the results, or the gradients too."""
    flat = tf.nest.flatten([(args, kwargs) for _, args, kwargs in unit.calls])
    places = [i for i, value in enumerate(flat) if tf.is_tensor(value)]
    weights = [w for layer in unit.layers for w in layer.trainable_weights]

    def results(tensors: Sequence[Any]) -> list[Any]:
        filled = list(flat)
        for place, tensor in zip(places, tensors):
            filled[place] = tensor
        packed = tf.nest.pack_sequence_as([(a, k) for _, a, k in unit.calls], filled)
        found: list[Any] = []
        for (layer, _, _), (args, kwargs) in zip(unit.calls, packed):
            found += [out for out in tf.nest.flatten(layer(*args, **kwargs)) if tf.is_tensor(out)]
        graph = tf.compat.v1.get_default_graph()
        losses = [loss for layer in unit.layers for loss in layer.losses]
        return found + [loss for loss in losses if getattr(loss, "graph", None) is graph]

    @tf.function(jit_compile=jit, autograph=False)
    def run(*tensors: Any) -> Any:
        if not backward:
            return results(tensors)
        sources = [*(t for t in tensors if t.dtype.is_floating), *map(compat.variable, weights)]
        with tf.GradientTape() as tape:
            tape.watch([t for t in tensors if t.dtype.is_floating])
            found = [out for out in results(tensors) if out.dtype.is_floating]
        if not found or not sources:
            return found
        seeds = [tf.stop_gradient(out) for out in found]
        gradients = tape.gradient(found, sources, output_gradients=seeds)
        return [*found, *(g for g in gradients if g is not None)]

    tensors = [flat[place] for place in places]
    return functools.partial(run.get_concrete_function(*tensors), *tensors)


def floor(unit: Unit, tables: Sequence[Any]) -> tuple[float, float]:
    """Operations and bytes of a unit, forward and backward: each kernel once a row or step."""
    gathered = {id(table) for table in tables}
    flops = moved = 0.0
    for layer, args, kwargs in unit.calls:
        tensors = [t for t in tf.nest.flatten((args, kwargs)) if tf.is_tensor(t)]
        moved += 2 * sum(t.shape.num_elements() * t.dtype.size for t in tensors)
        widest = max(tensors, key=lambda t: t.shape.num_elements(), default=None)
        if widest is None or not widest.shape.rank:
            continue
        rows = widest.shape.num_elements() / max(int(widest.shape[-1]), 1)
        for weight in layer.weights:
            size = float(tf.TensorShape(weight.shape).num_elements())
            if id(weight) in gathered:
                moved += 8.0 * widest.shape.num_elements() * int(weight.shape[-1])
            else:
                moved += 8.0 * size
                flops += 6.0 * rows * size if len(weight.shape) >= 2 else 0.0
    return flops, moved
