"""Whether a copy computes what the model does: outputs, losses and gradients on one batch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from recops._core import compat
from recops._core.compat import keras
from recops.accelerate.copying import CannotCopy, Copy, Place

FLOAT32 = 1e-5
# Errors against a wider computation: those of the swap may be this many times those of the stock.
_FACTOR = {"value": 2.0, "gradient": 3.0}
_ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24}
# A gradient that is 0 but for rounding is judged by the others.
_FLOOR = 1e-2
_DROPPING = ("rate", "dropout", "recurrent_dropout", "dropout_rate", "stddev", "_dropout")
# Rows that gradients are taken of, and of how many such parts of the batch.
_PART, _PARTS = 64, 3
# Tables that start near 0 hide every product of theirs.
_SPREAD = 0.1

Values = Callable[[Any], np.ndarray]


@dataclass(frozen=True)
class Observed:
    """What a copy computes.

    Args:
      values: inference's outputs and the sum of all losses.
      gradients: of a scalar of the outputs in training, by the stock model's weights, and of the
        inputs.
      sparse: ids of the copy's weights whose gradient is of rows.
    """

    values: list[np.ndarray]
    gradients: list[np.ndarray]
    sparse: frozenset[int]


class Prover:
    """Compares copies of a model with its stock layers.

    Args:
      model: the stock model.
      batch: what both are called on.
      tolerance: largest difference relative to the largest value; None: 1e-5 in float32, and
        otherwise, or beyond that, by the errors against a wider computation.
    """

    def __init__(self, model: Any, batch: Any, tolerance: float | None) -> None:
        self._model = model
        self._batch = batch
        self._tolerance = tolerance
        self._value = spread(model)
        self._training = True
        self._stock_copy = self._loaded(Copy(model, batch=batch))
        self._parts = _parts(model, batch)
        self._stock: dict[int, Observed] = {}
        self._wide: dict[int, Observed | None] = {}
        again = self.observe(self._loaded(self._stock_copy))
        if _furthest(self._observed_stock(0).gradients, again.gradients, _FLOOR) > FLOAT32:
            # Something is drawn that cannot be switched off: without training there is none.
            self._training = False
            self._stock.clear()

    def _observed_stock(self, part: int) -> Observed:
        if part not in self._stock:
            # Training moves statistics, which the next inference would use.
            self._stock[part] = self.observe(self._loaded(self._stock_copy), part)
        return self._stock[part]

    def check_copying(self) -> float:
        """How far a copy without swaps is from the model itself, with its own weights."""
        copy = Copy(self._model, batch=self._batch)
        copy.load(as_array)
        return _furthest(self._inference(self._model), self._inference(copy.model), 0.0)

    def _inference(self, model: Any) -> list[np.ndarray]:
        outputs = tf.nest.flatten(model(self._batch, training=False))
        return [*map(as_array, outputs), *map(as_array, model.losses)]

    def _loaded(self, copy: Copy) -> Copy:
        copy.load(self._value)
        without_dropout(copy.model)
        return copy

    def difference(self, places: Sequence[Place]) -> tuple[float, bool]:
        """The largest difference that swaps make, and whether it is within the tolerance.

        Where rounding puts a number on the other side of a kink, one gradient differs by more than
        rounding: what does not hold on the first part of the batch may do so on the others.
        """
        copy = Copy(self._model, places, batch=self._batch)
        worst, holds = self._compared(copy, 0)
        if holds or len(self._parts) == 1:
            return worst, holds
        others = [self._compared(copy, part) for part in range(1, len(self._parts))]
        if all(holds for _, holds in others):
            return max(difference for difference, _ in others), True
        return worst, False

    def _compared(self, copy: Copy, part: int) -> tuple[float, bool]:
        stock, seen = self._observed_stock(part), self.observe(self._loaded(copy), part)
        value = _furthest(stock.values, seen.values, 0.0)
        gradient = _furthest(stock.gradients, seen.gradients, _FLOOR)
        worst = max(value, gradient)
        if self._tolerance is not None:
            return worst, worst <= self._tolerance
        if worst <= FLOAT32 and not self._is_16_bit():
            return worst, True
        return worst, self._as_close_as_stock(seen, part)

    def _as_close_as_stock(self, seen: Observed, part: int) -> bool:
        """The rule of errors against a wider computation."""
        if not all(np.isfinite(a).all() for a in (*seen.values, *seen.gradients)):
            return False
        wide = self._observed_wide(part)
        if wide is None:
            return False
        rounding = _ROUNDING["float32"]
        for kind in ("value", "gradient"):
            floor = _FLOOR if kind == "gradient" else 0.0
            of = [getattr(each, f"{kind}s") for each in (wide, self._observed_stock(part), seen)]
            scale = floor * _largest(of[0])
            for exact, stock, new in zip(*of):
                allowed = _FACTOR[kind] * _difference(exact, stock, scale) + 2 * rounding
                if not _difference(exact, new, scale) <= allowed:
                    return False
        return True

    def _observed_wide(self, part: int) -> Observed | None:
        if part not in self._wide:
            self._wide[part] = None
            dtype = "float32" if self._is_16_bit() else "float64"
            # A layer may be written for one dtype; then nothing wider judges.
            unfit = (CannotCopy, ValueError, TypeError, tf.errors.OpError)
            # Layers that layers make for themselves follow the global policy.
            with contextlib.suppress(*unfit), _policy(dtype):
                copy = Copy(self._model, dtype=dtype, batch=self._batch)
                self._wide[part] = self.observe(self._loaded(copy), part)
        return self._wide[part]

    def _is_16_bit(self) -> bool:
        layers = self._model._flatten_layers()
        return any(layer.compute_dtype in ("float16", "bfloat16") for layer in layers)

    def observe(self, copy: Copy, part: int = 0) -> Observed:
        """What a copy with its weights loaded computes: outputs of all rows, gradients of a part.

        Gradients are sums over rows, and those of many rows round more than their tolerance.
        """
        model = copy.model
        outputs = tf.nest.flatten(model(self._batch, training=False))
        batch = self._parts[part]
        inputs = tf.nest.flatten(batch)
        watched = [x for x in inputs if x.dtype.is_floating]
        weights = list(model.trainable_weights)
        with tf.GradientTape() as tape:
            for each in watched:
                tape.watch(each)
            found = tf.nest.flatten(model(batch, training=self._training))
            losses = tf.add_n([tf.cast(x, tf.float64) for x in [*model.losses, 0.0]])
            scalar = losses + tf.add_n(
                [
                    tf.reduce_sum(tf.cast(out, tf.float64) * _drawn(out, place))
                    for place, out in enumerate(found)
                    if out.dtype.is_floating
                ]
            )
        raw = tape.gradient(scalar, [*map(compat.variable, weights), *watched])
        values = [as_array(out) for out in (*outputs, losses)]
        of_weights = dict(zip(map(id, weights), raw))
        sparse = frozenset(k for k, g in of_weights.items() if isinstance(g, tf.IndexedSlices))
        of_inputs = [_dense(g, x) for g, x in zip(raw[len(weights) :], watched)]
        return Observed(
            values, [*_of_stock(self._stock_copy, copy, of_weights), *of_inputs], sparse
        )


def _parts(model: Any, batch: Any) -> list[Any]:
    """Some rows of a batch, spread over all of it, a few times; itself where it is small.

    It is not cut where a model takes so many rows and no others, or inputs have not the same.
    """
    (rows, *others) = {int(each.shape[0]) for each in tf.nest.flatten(batch)}
    graph = compat.graph_of(model)
    fixed = graph is not None and any(
        spec.shape[0] is not None for spec in tf.nest.flatten(compat.ends_of(model)[0])
    )
    if rows <= _PART or others or fixed:
        return [batch]
    step = rows // _PART
    starts = range(min(_PARTS, step))
    return [tf.nest.map_structure(lambda x, s=s: x[s::step][:_PART], batch) for s in starts]


def _drawn(out: tf.Tensor, place: int) -> np.ndarray:
    """What an output is weighed with in the scalar that gradients are taken of."""
    return np.random.default_rng([1, place]).standard_normal(tuple(out.shape))


@contextlib.contextmanager
def _policy(dtype: str) -> Iterator[None]:
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(dtype)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def _of_stock(stock: Copy, copy: Copy, gradients: dict[int, Any]) -> Iterator[np.ndarray]:
    """Gradients in the order and arrangement of the stock model's weights.

    What a swap has moved about is moved back by seeing where it puts each number.
    """
    found: dict[int, np.ndarray] = {}
    for each in copy.carried:
        if id(each.new) in gradients:
            gradient = _dense(gradients[id(each.new)], each.new)
            found |= zip(map(id, each.old), taken_back(each, gradient))
    for each in stock.carried:
        (old,) = each.old
        if old.trainable:
            yield found.get(id(old), np.zeros(tuple(old.shape)))


def taken_back(carried: Any, value: np.ndarray) -> list[np.ndarray]:
    """A value of the new weight as values of the old ones: `arrange` the other way round."""
    shapes = [tuple(old.shape) for old in carried.old]
    sizes = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])
    numbered = [
        np.arange(start, end).reshape(shape) for start, end, shape in zip(sizes, sizes[1:], shapes)
    ]
    places = np.asarray(carried.arrange(numbered)).ravel()
    flat = np.zeros(sizes[-1], value.dtype)
    flat[places] = value.ravel()
    return [flat[start:end].reshape(shape) for start, end, shape in zip(sizes, sizes[1:], shapes)]


def spread(model: Any) -> Values:
    """The weights of a model, those that are near 0 moved away from it."""
    random = np.random.default_rng(2)
    trainable = {id(weight) for weight in model.trainable_weights}
    moved: dict[int, np.ndarray] = {}

    def value(variable: Any) -> np.ndarray:
        key = id(variable)
        if key not in moved:
            array = as_array(variable)
            small = array.size and np.issubdtype(array.dtype, np.floating)
            if small and key in trainable and np.sqrt(np.mean(array**2)) < _SPREAD:
                noise = _SPREAD * random.standard_normal(array.shape)
                array = (array + noise).astype(array.dtype)
            moved[key] = array
        return moved[key]

    return value


def without_dropout(model: Any) -> None:
    """Switch off what a copy draws at random in training."""
    for layer in model._flatten_layers():
        for name in _DROPPING:
            value = vars(layer).get(name)
            if isinstance(value, float) and value:
                object.__setattr__(layer, name, 0.0)


def as_array(value: Any) -> np.ndarray:
    """A weight or tensor as an array; 16-bit floats as float32, which holds them."""
    array = np.asarray(compat.as_tensor(compat.variable(value)))
    wide = tf.as_dtype(array.dtype) in (tf.float16, tf.bfloat16)
    return array.astype(np.float32) if wide else array


def _dense(gradient: Any, like: Any) -> np.ndarray:
    if gradient is None:
        return np.zeros(tuple(like.shape))
    return as_array(tf.convert_to_tensor(gradient))


def _furthest(old: Sequence[np.ndarray], new: Sequence[np.ndarray], floor: float) -> float:
    scale = floor * _largest(old)
    return max((_difference(a, b, scale) for a, b in zip(old, new)), default=0.0)


def _largest(arrays: Sequence[np.ndarray]) -> float:
    return max((float(np.nanmax(np.abs(a), initial=0)) for a in arrays if a.size), default=0.0)


def _difference(old: np.ndarray, new: np.ndarray, scale: float) -> float:
    """The largest difference relative to the largest value, or to a scale if that is larger."""
    if old.shape != new.shape:
        return float("inf")
    if old.dtype.kind not in "fiu":
        return 0.0 if np.array_equal(old, new) else float("inf")
    old, new = old.astype(np.float64), new.astype(np.float64)
    if not np.array_equal(np.isnan(old), np.isnan(new)):
        return float("inf")
    gap = float(np.nanmax(np.abs(new - old), initial=0))
    if not gap:
        return 0.0
    return gap / max(float(np.nanmax(np.abs(old), initial=0)), scale, 1e-30)
