"""The class of the models: Keras's, but inputs are found by their names alone."""

from __future__ import annotations

from typing import Any

from recops._core import compat
from recops._core.compat import keras


@compat.serializable
class FeatureModel(keras.Model):
    """A functional model of a dict of inputs, which reads those that it knows by name.

    Keras itself binds a dict with further keys by position, in the order of the names: a batch with
    a column more would be read shifted, and often without an error.
    """

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(inputs, dict):
            missing = [name for name in self.input if name not in inputs]
            if missing:
                raise ValueError(
                    f"{self.name}: the inputs must hold {', '.join(map(repr, missing))}, got "
                    f"{', '.join(map(repr, inputs)) or 'none'}"
                )
            inputs = {name: inputs[name] for name in self.input}
        return super().__call__(inputs, *args, **kwargs)


def assembled(cls: type, inputs: dict[str, Any], output: Any, name: str) -> Any:
    """A model of class `cls` in which no layer is called like an input, whose name the user chose.

    Names of layers are unique in a model. A layer whose own is taken is `..._layer` here.
    """
    layers = compat.layers_behind(output)
    taken = {*inputs, *(layer.name for layer in layers)}
    for layer in layers:
        if layer.name in inputs:
            free = f"{layer.name}_layer"
            while free in taken:
                free += "_"
            taken.add(free)
            compat.rename(layer, free)
    return cls(inputs, output, name=name)
