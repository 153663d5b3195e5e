"""A copy of a model in which some layers are others."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from recops._core import compat
from recops._core.compat import keras
from recops.accelerate.graph import Call, Graph, Pattern
from recops.accelerate.registry import Carried, Replacement

_PLAIN = (bool, int, float, str, type(None))
# Keras's own state, and what a name or a policy stands for elsewhere.
_NOT_COPIED = {"built", "name", "dtype", "trainable", "input_spec", "supports_masking"}


class CannotCopy(Exception):
    """A model or layer of which no second one can be made; the sentence says why."""


class Place(NamedTuple):
    """A layer that a copy may hold another in the place of.

    Args:
      path: names of the layers around it and its own.
      layer: the stock layer, or several that become one.
      was, now: for the report.
      replace: () -> Replacement.
    """

    path: str
    layer: Any
    was: str
    now: str
    replace: Callable[[], Replacement]


def first(values: Sequence[np.ndarray]) -> np.ndarray:
    """The arrangement of a weight that stays as it is."""
    return values[0]


class Copy:
    """A model made anew, layer by layer.

    Args:
      model: the stock model, which is only read.
      places: those where another layer stands in.
      dtype: policy of the stock layers, where it is not to be their own.
      batch: to build a model with that has no graph.

    Attributes: `model`; `carried`, for every weight of it where its value comes from.
    """

    def __init__(
        self,
        model: Any,
        places: Sequence[Place] = (),
        *,
        dtype: str | None = None,
        batch: Any = None,
    ) -> None:
        self._single = {id(place.layer): place for place in places}
        self._patterns = [place for place in places if isinstance(place.layer, Pattern)]
        self._dtype = dtype
        self._made: dict[int, Any] = {}
        self.clones: list[tuple[Any, Any]] = []
        self._replaced: list[Carried] = []
        self.model = self._layer(model)
        # Keras 3 asks a layer that tells its output's shape for nothing more; what such a one makes
        # in its first call is not there before.
        if compat.graph_of(model) is None or any(map(_lacks_weights, self.clones)):
            self.model(batch)
        self.carried = self._all_carried(model)
        self._swap_inside()

    def load(self, value: Callable[[Any], np.ndarray]) -> None:
        """Set the weights from those of the stock model, which `value` returns."""
        for each in self.carried:
            each.new.assign(each.arrange([value(old) for old in each.old]))

    def _layer(self, layer: Any) -> Any:
        """The layer that stands for one of the stock model; the same one each time."""
        if id(layer) not in self._made:
            self._made[id(layer)] = self._new(layer)
        return self._made[id(layer)]

    def _new(self, layer: Any) -> Any:
        if id(layer) in self._single:
            return self._replacement(self._single[id(layer)])
        if not isinstance(layer, keras.layers.Layer):
            return compat.operation_like(layer)
        if compat.graph_of(layer) is not None:
            return self._graph(layer)
        made = clone(layer, self._dtype)
        self.clones.append((layer, made))
        return made

    def _replacement(self, place: Place) -> Any:
        made = place.replace()
        olds = place.layer.layers if isinstance(place.layer, Pattern) else (place.layer,)
        if not all(old.trainable for old in olds):
            made.layer.trainable = False
        self._replaced += made.carried
        return made.layer

    def _graph(self, model: Any) -> Any:
        """A functional or Sequential model made anew from its calls."""
        graph = Graph(model)
        patterns = [place for place in self._patterns if _within(place.layer, graph)]
        standing: dict[int, Any] = {}
        in_order: list[Any] = []

        def filled(value: Any) -> Any:
            return standing[id(value)] if compat.is_symbolic(value) else value

        def call(layer: Any, args: Any, kwargs: Any, outputs: Sequence[Any]) -> None:
            args, kwargs = tf.nest.map_structure(filled, (args, kwargs))
            results = tf.nest.flatten(layer(*args, **kwargs))
            standing.update((id(old), new) for old, new in zip(outputs, results))
            if isinstance(layer, keras.layers.Layer):
                in_order.append(layer)

        todo: dict[int, tuple[Place, Sequence[Call]]] = {}
        for place in patterns:
            todo |= {_key(node): (place, place.layer.calls) for node in place.layer.nodes}
        done: set[int] = set()
        for node in graph.nodes:
            if isinstance(node.layer, keras.layers.InputLayer):
                made = type(node.layer).from_config(node.layer.get_config())
                standing[id(node.outputs[0])] = made.output
            elif _key(node) not in todo:
                call(self._layer(node.layer), node.args, node.kwargs, node.outputs)
            elif id(todo[_key(node)][0].layer) not in done:
                place, calls = todo[_key(node)]
                done.add(id(place.layer))
                stand_in = self._layer(place.layer)
                for each in calls:
                    call(stand_in, each.args, {}, each.outputs)
        inputs, outputs = tf.nest.map_structure(filled, compat.ends_of(model))
        made = _model_like(model, inputs, outputs, in_order)
        if not model.trainable:
            made.trainable = False
        return made

    def _all_carried(self, model: Any) -> list[Carried]:
        same: list[Carried] = []
        for old, new in self.clones:
            olds, news = list(old.weights), list(new.weights)
            if [tuple(v.shape) for v in olds] != [tuple(v.shape) for v in news]:
                raise CannotCopy(
                    f"{old.name!r} ({type(old).__name__}) made from its config has other weights "
                    f"than it: {[tuple(v.shape) for v in news]}, not "
                    f"{[tuple(v.shape) for v in olds]}"
                )
            _like(olds, news)
            seeds, others = compat.seeds_of(old), compat.seeds_of(new)
            # A rate that was set to 0 later needs none.
            if len(seeds) == len(others):
                olds, news = [*olds, *seeds], [*news, *others]
            same += [Carried(n, (o,), first) for o, n in zip(olds, news)]
        return [*same, *self._replaced]

    def _swap_inside(self) -> None:
        """Put the layers in that stand for attributes of layers and models without a graph."""
        before = len(self._replaced)
        for old, new in self.clones:
            for each in attributes(old, new):
                if id(each.layer) in self._single:
                    made = self._layer(each.layer)
                    put = functools.partial(each.put, made)
                    compat.replace_layer(each.holder, each.twin, made, put)
        self.carried += self._replaced[before:]


def _lacks_weights(pair: tuple[Any, Any]) -> bool:
    old, new = pair
    return len(old.weights) != len(new.weights)


def _key(node: Any) -> int:
    return id(node.outputs[0])


def _within(pattern: Pattern, graph: Graph) -> bool:
    keys = {_key(node) for node in graph.nodes}
    return all(_key(node) in keys for node in pattern.nodes)


def _like(olds: Sequence[Any], news: Sequence[Any]) -> None:
    """Configs forget regularizers and constraints; the weights know them."""
    for old, new in zip(olds, news):
        for name in ("regularizer", "constraint"):
            if compat.KERAS_3 and getattr(old, name, None) is not getattr(new, name, None):
                setattr(new, name, getattr(old, name, None))


def _model_like(model: Any, inputs: Any, outputs: Any, layers: Sequence[Any]) -> Any:
    if isinstance(model, keras.Sequential):
        start = keras.layers.InputLayer.from_config(compat.producer(model.inputs[0]).get_config())
        return type(model)([start, *layers], name=model.name)
    if compat.is_plain_functional(model):
        return keras.Model(inputs=inputs, outputs=outputs, name=model.name)
    try:
        made = type(model)(inputs=inputs, outputs=outputs, name=model.name)
    except TypeError as error:
        raise CannotCopy(
            f"{type(model).__name__} is a functional model of a class of its own that is not made "
            f"of inputs and outputs: {error}"
        ) from None
    _plain_attributes(model, made)
    return made


def clone(layer: Any, dtype: str | None = None) -> Any:
    """A layer like another, without its weights. Raises: CannotCopy."""
    if isinstance(layer, keras.layers.Lambda):
        return _lambda_like(layer, dtype)
    try:
        config = layer.get_config()
        made = type(layer).from_config(config if dtype is None else _with_dtype(config, dtype))
    except Exception as error:
        raise CannotCopy(
            f"{layer.name!r} ({type(layer).__name__}) cannot be made from its config: "
            f"{str(error).strip().splitlines()[0]}"
        ) from error
    _plain_attributes(layer, made)
    return made


def _lambda_like(layer: Any, dtype: str | None) -> Any:
    """A Lambda's config holds its code, which Keras does not run from there."""
    return keras.layers.Lambda(
        layer.function,
        output_shape=layer._output_shape,
        mask=layer.mask,
        arguments=layer.arguments,
        name=layer.name,
        dtype=dtype or layer.dtype,
    )


def _plain_attributes(old: Any, new: Any) -> None:
    """Configs may drop an argument (and give its default back); the attributes know it."""
    known = vars(new)
    for name, value in vars(old).items():
        if name.startswith("_") or name in _NOT_COPIED or name not in known:
            continue
        if _is_plain(value) and _is_plain(known[name]) and value != known[name]:
            with contextlib.suppress(AttributeError):
                setattr(new, name, value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)


def _with_dtype(config: Any, dtype: str) -> Any:
    """A config with all policies in it that one."""
    if isinstance(config, Mapping):
        return {k: dtype if k == "dtype" else _with_dtype(v, dtype) for k, v in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_with_dtype(each, dtype) for each in config)
    return config


class Attribute(NamedTuple):
    """A layer inside a layer or model, and its twin in a copy of that.

    Args:
      path: names of the layers around it, within the outermost, and its own.
      holder: what holds the twin.
      put: sets what stands in the twin's place.
      layer, twin: the stock one and that of the copy.
    """

    path: str
    holder: Any
    put: Callable[[Any], None]
    layer: Any
    twin: Any


def is_composite(layer: Any) -> bool:
    """Whether a layer is of a class of somebody's own, which may hold layers as attributes."""
    module = type(layer).__module__.split(".", 1)[0]
    return module not in ("keras", "tf_keras", "recops") and compat.graph_of(layer) is None


def attributes(old: Any, new: Any, prefix: str = "") -> Iterator[Attribute]:
    """The layers that a layer or model of somebody's own class holds, and those that they hold."""
    if not is_composite(old):
        return
    for name, value in list(vars(old).items()):
        twin = vars(new).get(name)
        if name.startswith("_") or twin is None:
            continue
        held: list[tuple[Any, Any, Callable[[Any], None]]] = []
        if isinstance(value, keras.layers.Layer):
            held = [(value, twin, functools.partial(setattr, new, name))]
        elif isinstance(value, (list, dict)):
            held = [
                (value[key], twin[key], functools.partial(operator.setitem, twin, key))
                for key in (range(len(value)) if isinstance(value, list) else list(value))
                if isinstance(value[key], keras.layers.Layer)
            ]
        for layer, its_twin, put in held:
            path = prefix + layer.name
            yield Attribute(path, new, put, layer, its_twin)
            yield from attributes(layer, its_twin, f"{path}/")
