"""Every branch on the Keras or TensorFlow version, and nothing else.

`tf.keras` decides which Keras is meant: Keras 3 (the default of TensorFlow 2.16 and later),
tf_keras (with `TF_USE_LEGACY_KERAS=1`), or the Keras 2.15 of TensorFlow 2.15.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import os
from typing import Any, NamedTuple, TypeVar

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import auto_control_deps_utils
from tensorflow.python.ops import control_flow_util

keras = tf.keras
# `tf.keras` itself has no version in tf_keras and Keras 2; the package of its classes does.
KERAS_VERSION: str = importlib.import_module(
    keras.layers.Layer.__module__.split(".", 1)[0]
).__version__
KERAS_3: bool = int(KERAS_VERSION.split(".", 1)[0]) >= 3

if KERAS_3 and keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"recops runs on the TensorFlow backend of Keras, but Keras uses "
        f"{keras.backend.backend()!r}: set KERAS_BACKEND=tensorflow before importing keras"
    )

# Under one name for type checkers, which cannot follow `tf.keras`.
Layer: Any = keras.layers.Layer

_Class = TypeVar("_Class", bound=type)


def serializable(cls: _Class) -> _Class:
    """Class decorator: reloads from a `.keras` file without `custom_objects`."""
    return keras.utils.register_keras_serializable(package="recops")(cls)


def add_table(layer: Any, **kwargs: Any) -> Any:
    """`layer.add_weight` for a table that is gathered from: never cast as a whole."""
    off = {"autocast": False} if KERAS_3 else {"experimental_autocast": False}
    return layer.add_weight(**kwargs, **off)


def variable(weight: Any) -> Any:
    """The TensorFlow variable behind a weight of `add_table`; other values pass through.

    A gather from the variable reads only the rows asked for and has a sparse gradient.
    """
    if KERAS_3 and isinstance(weight, keras.Variable):
        return weight.value
    return weight


def as_tensor(value: Any) -> tf.Tensor:
    """A tensor of an array, tensor or Keras weight (in the compute dtype inside a layer)."""
    if isinstance(value, tf.Tensor):
        return value
    if KERAS_3 and isinstance(value, keras.Variable):
        value = value.value
    return tf.convert_to_tensor(value)


def legacy_keras() -> str:
    """Which Keras this is, in words."""
    if KERAS_3:
        return "Keras 3"
    return "tf_keras" if os.environ.get("TF_USE_LEGACY_KERAS") else "Keras 2"


def stateless(layer: Any, weights: list[tf.Tensor], inputs: tf.Tensor, **kwargs: Any) -> Any:
    """Call a recurrent layer with tensors in place of its weights, which get gradients.

    The layer is built at its first call, which must not be inside a trace.

    Keyword arguments that are None are not passed.
    """
    kwargs = {name: value for name, value in kwargs.items() if value is not None}
    if not layer.built:
        layer.build((None, *inputs.shape[1:]))
    if KERAS_3:
        return layer.stateless_call(weights, layer.non_trainable_variables, inputs, **kwargs)[0]
    cell = layer.cell
    for name, tensor in zip(("kernel", "recurrent_kernel", "bias"), weights):
        delattr(cell, name)
        object.__setattr__(cell, name, tensor)
    return layer(inputs, **kwargs)


def reseed(model: Any, *entropy: int) -> None:
    """Make the random state of a model's dropout a function of these numbers.

    Neither Keras saves that state, so a resumed run would draw other masks than an unbroken one.
    Only Keras 3 has it in variables; under tf_keras and Keras 2.15 this does nothing.
    """
    if not KERAS_3:
        return
    states = [v for v in model.variables if v.path.endswith("seed_generator_state")]
    for place, state in enumerate(states):
        state.assign(
            np.random.default_rng([*entropy, place]).integers(2**32, size=2, dtype="uint32")
        )


def philox_dropout(inputs: Any, rate: float, noise_shape: Any, seed_generator: Any) -> tf.Tensor:
    """Dropout of Keras 3 by a generator that is named, and not left to the compiler."""
    seed = tf.bitcast(tf.cast(seed_generator.next(), tf.uint32), tf.int32)
    return tf.nn.experimental.stateless_dropout(
        inputs, rate=rate, seed=seed, rng_alg="philox", noise_shape=noise_shape
    )


def build_with_all_shapes(layer: Any, **inputs: Any) -> None:
    """Build a layer of several arguments before its first call.

    Keras 3 does that itself; Keras 2 would hand `build` the shape of the first argument only.
    """
    if KERAS_3 or layer.built:
        return
    shapes = {f"{name}_shape": x.shape for name, x in inputs.items() if x is not None}
    with tf.init_scope(), tf.name_scope(layer.name):
        layer.build(**shapes)


def slot_index(optimizer: Any, variable: Any) -> int:
    """The place of a variable among those that an optimizer was built for."""
    if KERAS_3:
        return optimizer._get_variable_index(variable)
    return optimizer._index_dict[optimizer._var_key(variable)]


def constraint_of(optimizer: Any, variable: Any) -> Any:
    """The constraint of a variable in an optimizer's step, where Keras 3 hands out its value."""
    if KERAS_3:
        known = optimizer._trainable_variables[slot_index(optimizer, variable)]
        return getattr(known, "constraint", None)
    return variable.constraint


def regularizer_of(layer: Any, weight: Any) -> Any:
    """The regularizer that a weight of a layer was made with, or None.

    Keras 2 does not keep it with the weight, but in the closure of the loss that it makes of it.
    """
    if KERAS_3:
        return getattr(weight, "regularizer", None)
    for part in layer._flatten_layers():
        for loss in part._callable_losses:
            made: Any = loss.args[0] if getattr(loss, "args", ()) else None
            if getattr(made, "args", (None,))[0] is weight:
                return inspect.getclosurevars(made.func).nonlocals.get("regularizer")
    return None


def variables_of(optimizer: Any) -> list[Any]:
    """The state of an optimizer, which is an attribute or a method."""
    found = optimizer.variables
    return list(found() if callable(found) else found)


def mark_built(optimizer: Any) -> None:
    """Say that `build` is done, which each optimizer of Keras 2 does for itself."""
    if not KERAS_3:
        optimizer._built = True


def is_built(optimizer: Any) -> bool:
    """Whether `build` is done."""
    return bool(getattr(optimizer, "built" if KERAS_3 else "_built", False))


def optimizer_arguments(name: str) -> dict[str, Any]:
    """What the base class of optimizers takes from one that has no learning rate of its own."""
    return {"name": name, "learning_rate": 0.0} if KERAS_3 else {"name": name}


def path_of(weight: Any) -> str:
    """The layers that hold a weight and its name: "hidden/dense/kernel"."""
    return weight.path if KERAS_3 else weight.name.removesuffix(":0")


def call_arguments(layer: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The symbolic arguments of a layer's first call in a functional model."""
    node = layer._inbound_nodes[0]
    if KERAS_3:
        return tuple(node.arguments.args), dict(node.arguments.kwargs)
    return tuple(node.call_args), dict(node.call_kwargs)


class Node(NamedTuple):
    """One call of a layer in a functional model: its symbolic arguments and results."""

    layer: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[Any]


def is_symbolic(value: Any) -> bool:
    """Whether it is a symbolic tensor of a functional model."""
    return hasattr(value, "_keras_history")


def graph_of(model: Any) -> Any:
    """The functional model that a model is or runs as, or None: of a Sequential one it is built."""
    if isinstance(model, keras.Sequential):
        if not getattr(model, "inputs", None):
            return None
        return model._functional if KERAS_3 else model
    return model if hasattr(model, "_nodes_by_depth") else None


def nodes_of(model: Any) -> list[Node]:
    """The calls of a functional model, each after those that it needs; inputs come first."""
    graph = graph_of(model)
    depths = sorted(graph._nodes_by_depth, reverse=True)
    found = [node for depth in depths for node in graph._nodes_by_depth[depth]]
    found.sort(key=lambda node: not node.is_input)
    if KERAS_3:
        return [
            Node(n.operation, tuple(n.arguments.args), dict(n.arguments.kwargs), list(n.outputs))
            for n in found
        ]
    return [
        Node(n.layer, tuple(n.call_args), dict(n.call_kwargs), tf.nest.flatten(n.outputs))
        for n in found
    ]


def ends_of(model: Any) -> tuple[Any, Any]:
    """The symbolic inputs and outputs of a functional model, in their structures."""
    graph = graph_of(model)
    if KERAS_3:
        return graph._inputs_struct, graph._outputs_struct
    return graph._nested_inputs, graph._nested_outputs


def operation_like(operation: Any) -> Any:
    """An operation of a graph of Keras 3 once more, without the calls that the graph has of it."""
    made = copy.copy(operation)
    made._inbound_nodes, made._outbound_nodes = [], []
    return made


def not_zero(ids: Any) -> Any:
    """The mask of ids of which 0 is padding; Keras 3 asks for it before there are values."""
    return keras.ops.not_equal(ids, 0) if KERAS_3 else tf.not_equal(ids, 0)


def is_plain_functional(model: Any) -> bool:
    """Whether a functional model is of no class of its own."""
    return type(model) is type(keras.Model(x := keras.Input((1,)), x))


def seeds_of(layer: Any) -> list[Any]:
    """The state of the dropout of a layer, which is in variables only in Keras 3."""
    if not KERAS_3:
        return []
    weights = {id(weight) for weight in layer.weights}
    return [
        v
        for v in layer.variables
        if id(v) not in weights and v.path.endswith("seed_generator_state")
    ]


def replace_layer(holder: Any, old: Any, new: Any, put: Any) -> None:
    """Put a layer in another's place in a built layer or model, which Keras locks.

    `put()` sets the attribute or entry. The new layer takes the old one's place among all, so that
    the order of weights stays.
    """
    if not KERAS_3:
        layers = list(holder._self_tracked_trackables)
        put()
        kept = [new if each is old else each for each in layers]
        holder._self_tracked_trackables[:] = kept
        return
    layers = [new if each is old else each for each in holder._layers]
    locked, holder._tracker.locked = holder._tracker.locked, False
    put()
    holder._tracker.untrack(old)
    holder._tracker.locked = locked
    holder._layers[:] = layers


def compile_arguments(model: Any) -> dict[str, Any]:
    """What `compile` was called with, as the objects that were given."""
    given = dict(model._compile_config.config)
    if KERAS_3:
        given["auto_scale_loss"] = getattr(model, "auto_scale_loss", True)
    return given


def is_compiled(model: Any) -> bool:
    """Whether a model has an optimizer and a loss to train with."""
    compiled = model.compiled if KERAS_3 else model._is_compiled
    return bool(compiled) and getattr(model, "optimizer", None) is not None


def slot_indices(optimizer: Any) -> dict[Any, int]:
    """Key of a variable -> its place, of all that a built optimizer moves."""
    found = optimizer._trainable_variables_indices if KERAS_3 else optimizer._index_dict
    return dict(found)


def producer(tensor: Any) -> Any:
    """The layer that made a symbolic tensor of a functional model."""
    return tensor._keras_history[0]


def tracing_for_xla() -> bool:
    """Whether the code runs inside the trace of a function with `jit_compile=True`.

    No public name says so; TensorFlow's own control flow asks the same question this way.
    """
    return bool(control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))


def only_reads(op_type: str) -> None:
    """Say of an op that takes variables that it writes to none.

    A function then orders it with writes to them alone, and lets reads run side by side. No public
    name says so; TensorFlow's own gathers are made known this way.
    """
    auto_control_deps_utils.register_read_only_resource_op(op_type)
