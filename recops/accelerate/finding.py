"""Where a model has layers that something faster can stand in for."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from recops._core import compat
from recops._core.compat import keras
from recops.accelerate import embeddings, keras_rs
from recops.accelerate.copying import Copy, Place, attributes, is_composite
from recops.accelerate.graph import Graph, Pattern, shapes_of_call
from recops.accelerate.registry import Kept, class_path, find
from recops.accelerate.report import Row

_PATTERNS: tuple[Callable[[Graph], Iterator[Pattern]], ...] = (
    *embeddings.PATTERNS,
    *keras_rs.PATTERNS,
)
_NO_SWAP = "no swap is known for its class"


class Choice:
    """Which layers may be swapped, by the arguments `only` and `keep` of `accelerate`."""

    def __init__(self, only: Any, keep: Any) -> None:
        self._only = None if only is None else _listed("only", only)
        self._keep = _listed("keep", keep)

    def check(self, model: Any, paths: Collection[str]) -> None:
        """Raise ValueError for what names no layer: the rest would be swapped unseen."""
        layers = list(model._flatten_layers())
        for argument, chosen in (("only", self._only or ()), ("keep", self._keep)):
            for each in chosen:
                if each not in paths and not any(_named((each,), "", x) for x in layers):
                    names = ", ".join(dict.fromkeys(layer.name for layer in layers))
                    raise ValueError(
                        f"accelerate: {argument} names {each!r}, which is neither name nor class "
                        f"of a layer of {model.name!r}; its layers are {names}"
                    )

    def why_not(self, path: str, layers: Sequence[Any]) -> str | None:
        """The reason to leave layers alone, or None."""
        if any(_named(self._keep, path, layer) for layer in layers):
            return "kept as asked"
        if self._only is not None and not all(_named(self._only, path, x) for x in layers):
            return "not among those asked for"
        return None


def _listed(argument: str, given: Any) -> tuple[Any, ...]:
    listed = (given,) if isinstance(given, (str, type)) else tuple(given)
    for each in listed:
        if not isinstance(each, (str, type)):
            raise ValueError(
                f"accelerate: {argument} takes names and classes of layers, got {each!r}"
            )
    return listed


def _named(chosen: Collection[Any], path: str, layer: Any) -> bool:
    names = {path, layer.name, type(layer).__name__, class_path(layer)}
    return any(type(layer) is each if isinstance(each, type) else each in names for each in chosen)


def find_places(
    model: Any, stock: Copy, batch: Any, choice: Choice
) -> tuple[list[Place], list[Row]]:
    """The places of a model where a layer may be swapped, and rows of what stays.

    Args:
      stock: a copy without swaps, run once to see the shapes inside layers without a graph.
    """
    finder = _Finder(choice, shapes_inside(stock, batch))
    finder.model(model, "")
    choice.check(model, {each.path for each in finder.places} | {row.layer for row in finder.rows})
    return finder.places, finder.rows


class _Finder:
    def __init__(self, choice: Choice, inner: dict[int, Any]) -> None:
        self.places: list[Place] = []
        self.rows: list[Row] = []
        self._choice = choice
        self._inner = inner
        self._seen: set[int] = set()

    def model(self, model: Any, prefix: str) -> None:
        """All of a model; `prefix` is the path of those that hold it."""
        if compat.graph_of(model) is None:
            self._attributes(model, prefix)
            return
        graph = Graph(model)
        for pattern in self._patterns(graph):
            path = prefix + pattern.name
            place = Place(path, pattern, pattern.was, pattern.now, pattern.replace)
            if self._taken(place, pattern.layers):
                self._seen |= {id(layer) for layer in pattern.layers}
        for node in graph.nodes:
            layer = node.layer
            if isinstance(layer, keras.layers.InputLayer) or not isinstance(
                layer, keras.layers.Layer
            ):
                continue
            if id(layer) not in self._seen:
                self._seen.add(id(layer))
                shapes = functools.partial(shapes_of_call, layer.call, node.args, node.kwargs)
                self._layer(layer, prefix + layer.name, shapes)

    def _patterns(self, graph: Graph) -> Iterator[Pattern]:
        for finder in _PATTERNS:
            for pattern in finder(graph):
                if not self._seen & {id(layer) for layer in pattern.layers}:
                    yield pattern

    def _layer(self, layer: Any, path: str, shapes: Callable[[], Any]) -> None:
        swap = find(layer)
        if swap is not None:
            replace = functools.partial(_replaced, swap.replace, layer, shapes)
            self._taken(Place(path, layer, type(layer).__name__, swap.now, replace), (layer,))
        elif compat.graph_of(layer) is not None:
            self.model(layer, f"{path}/")
        elif isinstance(layer, keras.layers.Lambda) or is_composite(layer):
            before = len(self.places)
            self._attributes(layer, f"{path}/")
            if len(self.places) == before:
                self.rows.append(Row(path, type(layer).__name__, None, _NO_SWAP))

    def _attributes(self, holder: Any, prefix: str) -> None:
        """What is known inside a layer or model without a graph."""
        for each in attributes(holder, holder):
            layer, path = each.layer, prefix + each.path
            if id(layer) in self._seen or find(layer) is None:
                continue
            self._seen.add(id(layer))
            if id(layer) in self._inner:
                self._layer(layer, path, functools.partial(self._inner.__getitem__, id(layer)))
            else:
                reason = "it was not called on the probe batch"
                self.rows.append(Row(path, type(layer).__name__, None, reason))

    def _taken(self, place: Place, layers: Sequence[Any]) -> bool:
        """Whether a place is to be tried; where not, the row says why."""
        reason = self._choice.why_not(place.path, layers)
        if reason is None:
            reason = refused(place)
        if reason is None:
            self.places.append(place)
            return True
        if not isinstance(place.layer, Pattern):
            self.rows.append(Row(place.path, place.was, None, reason))
        return False


def _replaced(replace: Callable[[Any, Any], Any], layer: Any, shapes: Callable[[], Any]) -> Any:
    return replace(layer, shapes())


def refused(place: Place) -> str | None:
    """The sentence of a swap that does not take its layer, or None."""
    try:
        place.replace()
    except Kept as reason:
        return str(reason)
    # A swap may be a user's: whatever it raises, the layer stays and the report says so.
    except Exception as error:
        return f"its swap failed: {one_line(error)}"
    return None


def one_line(error: Exception) -> str:
    """What an error says first, without what Keras puts before it."""
    text = re.sub(r"\x1b\[\d+m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # TensorFlow puts a trace of its own in between.
    raised = [line for line in lines if re.match(r"\w+Error: ", line)]
    said = [line for line in lines if not line.startswith("Exception encountered when calling")]
    return raised[-1] if raised else ": ".join([type(error).__name__, *said[:1]])


def shapes_inside(stock: Copy, batch: Any) -> dict[int, Any]:
    """The shapes that layers inside composite layers are called with, by the stock layer's id."""
    seen: dict[int, Any] = {}
    watched: list[Any] = []
    for old, new in stock.clones:
        for each in attributes(old, new):
            twin = each.twin
            if find(each.layer) is not None and not any(twin is other for other in watched):
                watched.append(twin)
                object.__setattr__(twin, "call", _watching(twin.call, each.layer, seen))
    if watched:
        stock.model(batch)
    for twin in watched:
        object.__delattr__(twin, "call")
    return seen


def _watching(call: Callable[..., Any], child: Any, seen: dict[int, Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def watched(*args: Any, **kwargs: Any) -> Any:
        seen.setdefault(id(child), shapes_of_call(call, args, kwargs))
        return call(*args, **kwargs)

    return watched
