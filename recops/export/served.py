"""What of a model is served: a function from tensors by name to tensors by name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from recops._core import compat, dispatch
from recops._core.compat import keras
from recops.export.probe import largest_ids
from recops.features import SequenceFeature
from recops.layers import FusedEmbedding
from recops.models.transformer import Transformer
from recops.models.youtubednn_retrieval import RetrievalModel

Tensors = Mapping[str, tf.Tensor]
Specs = dict[str, tf.TensorSpec]

_HALF = (tf.float16, tf.bfloat16)
OUTPUT = "output"


@dataclass(frozen=True)
class Served:
    """A program in the making.

    Args:
      model: whose weights and tables the program reads.
      reads: name -> shape and dtype, of all that the model reads.
      call: tensors by the names of `reads` -> tensors by name.
      left_out: names that only training needs. The program has no such inputs.
      largest: name -> the largest id, where it is known.
    """

    model: Any
    reads: Specs
    call: Callable[[Tensors], Mapping[str, Any]]
    left_out: tuple[str, ...] = ()
    largest: Mapping[str, int] = field(default_factory=dict)

    @property
    def inputs(self) -> Specs:
        """What the program reads."""
        return {name: spec for name, spec in self.reads.items() if name not in self.left_out}

    def trace(self) -> Any:
        """The concrete function, of TensorFlow's own ops alone."""

        def program(inputs: Tensors) -> dict[str, tf.Tensor]:
            batch = tf.shape(next(iter(inputs.values())))[0]
            zeros = {name: _zeros(self.reads[name], batch) for name in self.left_out}
            return self.outputs({**inputs, **zeros})

        with dispatch.serving():
            return tf.function(program, autograph=False).get_concrete_function(self.inputs)

    def outputs(self, inputs: Tensors) -> dict[str, tf.Tensor]:
        """What the model gives, in 32 bits or more."""
        return {name: _wide(value) for name, value in self.call(inputs).items()}

    @property
    def half(self) -> str | None:
        """The dtype of 16 bits that a layer computes in, if one does."""
        layers = [self.model, *self.model._flatten_layers()]
        found = {getattr(layer, "compute_dtype", None) for layer in layers}
        return next((name for name in ("bfloat16", "float16") if name in found), None)


def served(model: Any, signature: Any = None) -> Served:
    """What `export` makes of a model; `signature` stands in for the inputs that are known of it."""
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"export: expected a model of {compat.legacy_keras()}, got {type(model).__name__}"
        )
    if not model.built:
        raise ValueError(
            f"export: {model.name} has no weights yet; call it on a batch, or load its weights, "
            f"before it is exported"
        )
    name = OUTPUT
    if isinstance(model, RetrievalModel):
        model, name = model.user_model, "user_vector"
    if isinstance(model, Transformer):
        return _generation(model, signature)
    structure, names = _structure(model, signature)
    specs = {
        name: _spec(model, name, leaf) for name, leaf in zip(names, tf.nest.flatten(structure))
    }
    if signature is None:
        specs = {name: _open(spec) for name, spec in specs.items()}
    left_out = () if signature is not None else _of_training(model, specs)
    inference = {"training": False} if _takes_training(model) else {}

    def call(inputs: Tensors) -> Mapping[str, Any]:
        values = tf.nest.pack_sequence_as(structure, [inputs[name] for name in names])
        return _named(model(values, **inference), name)

    return Served(model, specs, call, left_out, largest_ids(model))


def _generation(model: Transformer, signature: Any) -> Served:
    specs = {
        "source": tf.TensorSpec([None, model.max_length], tf.int32, "source"),
        "start": tf.TensorSpec([], tf.int32, "start"),
        "end": tf.TensorSpec([], tf.int32, "end"),
    }
    if signature is not None:
        raise ValueError(
            f"export: the inputs of {model.name} are {_described(specs)} and no others; got a "
            f"signature"
        )

    def call(inputs: Tensors) -> Mapping[str, Any]:
        source, start, end = (inputs[name] for name in specs)
        return {"ids": model.decode(source, start, end, model.max_length)}

    target = model.options["target_vocabulary"]
    largest = {"source": model.options["source_vocabulary"], "start": target, "end": target}
    return Served(model, specs, call, (), largest)


# Of an op of TensorFlow, and so of what goes into a program.
_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")


def _structure(model: Any, signature: Any) -> tuple[Any, list[str]]:
    """The model's argument, of symbols or specs, and a name for each of its leaves."""
    known = compat.known_inputs(model) if signature is None else signature
    if known is None:
        raise ValueError(
            f"export: the inputs of {model.name} are not known, since {type(model).__name__} is no "
            f"functional model; pass signature={{'name': tf.TensorSpec([None, ...], dtype)}}, or "
            f"the structure that its call takes"
        )
    flat = tf.nest.flatten(known)
    names = [getattr(leaf, "name", None) or f"input_{place}" for place, leaf in enumerate(flat)]
    if isinstance(known, Mapping) and len(flat) == len(known):
        # As `tf.nest` orders them. A spec may have another name of its own.
        keys = sorted(known)
        named = [getattr(leaf, "name", None) for leaf in flat] if signature is not None else keys
        names = [name or key for name, key in zip(named, keys)]
    for name in names:
        if not _NAME.fullmatch(name) or names.count(name) > 1:
            raise ValueError(
                f"export: the input {name!r} of {model.name} needs a name of its own, of letters, "
                f"digits, '_', '.', '-' and '/'; pass a signature whose "
                f"tf.TensorSpec(shape, dtype, name) has one"
            )
    return known, names


def _spec(model: Any, name: str, symbol: Any) -> tf.TensorSpec:
    if not compat.is_dense(symbol):
        raise ValueError(
            f"export: the input {name!r} of {model.name} is no dense tensor; give the model dense "
            f"inputs, padded where rows differ in length"
        )
    return tf.TensorSpec(tuple(symbol.shape), tf.as_dtype(symbol.dtype), name)


def _open(spec: tf.TensorSpec) -> tf.TensorSpec:
    """The same for any size of the batch."""
    return tf.TensorSpec([None, *spec.shape[1:]], spec.dtype, spec.name)


def _of_training(model: Any, specs: Specs) -> tuple[str, ...]:
    """Sampled negatives, which only the auxiliary loss reads."""
    features = {
        feature.name: feature
        for layer in model.layers
        if isinstance(layer, FusedEmbedding)
        for feature in layer.features
    }
    return tuple(
        name
        for name, feature in features.items()
        if isinstance(feature, SequenceFeature) and feature.negative_of and name in specs
    )


def _zeros(spec: tf.TensorSpec, batch: tf.Tensor) -> tf.Tensor:
    return tf.zeros([batch, *spec.shape[1:]], spec.dtype)


def _takes_training(model: Any) -> bool:
    arguments = inspect.signature(model.call).parameters
    return "training" in arguments or any(a.kind == a.VAR_KEYWORD for a in arguments.values())


def _named(outputs: Any, name: str) -> Mapping[str, Any]:
    if isinstance(outputs, Mapping) and not any(map(tf.nest.is_nested, outputs.values())):
        return outputs
    flat = tf.nest.flatten(outputs)
    return {name: flat[0]} if len(flat) == 1 else {f"{name}_{i}": x for i, x in enumerate(flat)}


def _wide(value: Any) -> tf.Tensor:
    value = tf.convert_to_tensor(value)
    return tf.cast(value, tf.float32) if value.dtype in _HALF else tf.identity(value)


def _described(specs: Specs) -> str:
    return ", ".join(f"{name} {axes(spec)} {spec.dtype.name}" for name, spec in specs.items())


def axes(spec: tf.TensorSpec) -> str:
    """A shape in words: [B, 50]."""
    sizes = ["?" if size is None else str(size) for size in spec.shape]
    if spec.shape.rank and spec.shape[0] is None:
        sizes[0] = "B"
    return f"[{', '.join(sizes)}]"
