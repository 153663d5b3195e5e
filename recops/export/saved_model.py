"""A program as a SavedModel, with signature `serving_default`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

from recops._core import compat

SIGNATURE = "serving_default"


def write(program: Any, model: Any, folder: Path) -> None:
    """Write a concrete function and what it reads of the model, and nothing else of it."""
    module = tf.Module()
    captured = {id(tensor) for tensor in program.captured_inputs}
    held = list(tf.train.TrackableView(model).descendants())
    variables = [
        *program.graph.variables,
        *(compat.variable(weight) for weight in model.variables),
        *(each for each in held if isinstance(each, tf.Variable)),
    ]
    module.weights = list({id(v): v for v in variables if id(v.handle) in captured}.values())
    # Lookup tables of preprocessing layers are resources and no variables.
    module.tables = [
        each for each in held if isinstance(each, tf.saved_model.experimental.TrackableResource)
    ]
    # Nobody trains what is served, so that the backward of a custom gradient is not traced either.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(folder), signatures={SIGNATURE: program}, options=options)
