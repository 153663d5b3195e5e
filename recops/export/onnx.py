"""A program as a file for ONNX Runtime, by tf2onnx, which Keras's own export uses too."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import tensorflow as tf

# Protocol buffers, which an ONNX file is, are no larger.
_LARGEST = 2**31 - 1


def packages() -> tuple[Any, Any]:
    """tf2onnx and onnx, or ImportError that names the extra; onnxruntime must be there as well."""
    try:
        import onnx
        import onnxruntime  # noqa: F401
        import tf2onnx
    except ImportError as error:
        raise ImportError(
            f"export: format 'onnx' needs tf2onnx, onnx and onnxruntime, and {error.name} is not "
            f'installed: pip install "recops[onnx]"'
        ) from error
    return tf2onnx, onnx


def write(program: Any, served: Any, file: Path) -> None:
    """Convert a concrete function.

    Raises: ValueError for what an ONNX file cannot hold, by the name of the layer.
    """
    tf2onnx, onnx = packages()
    _refuse(program, served)
    specs = list(served.inputs.values())
    # It asks a function for the program, and only the program knows what it was traced for.
    traced = SimpleNamespace(get_concrete_function=lambda *_: program)
    with _quiet():
        model, _ = tf2onnx.convert.from_function(traced, specs)
    if lacking := sorted(_unknown(onnx, model)):
        op, node = lacking[0]
        raise ValueError(
            f"export: ONNX has no op for {op}, which {_layer(served.model, node)} of "
            f"{served.model.name} is made of ({node}); format 'saved_model' holds every op"
        )
    model.graph.name = served.model.name
    _name_batch(model, served)
    onnx.save(model, str(file))


def _refuse(program: Any, served: Any) -> None:
    """Raise ValueError where it is known beforehand that no file comes of it."""
    layers = [served.model, *served.model._flatten_layers()]
    for layer in layers:
        if getattr(layer, "compute_dtype", "float32") in ("bfloat16", "float16"):
            raise ValueError(
                f"export: {layer.name} of {served.model.name} computes in {layer.compute_dtype}, "
                f"which ONNX Runtime's ops for a CPU do not; load the weights into the same model "
                f"of policy 'float32', or take format 'saved_model'"
            )
    size = sum(v.shape.num_elements() * v.dtype.size for v in program.graph.variables)
    if size > _LARGEST:
        raise ValueError(
            f"export: {served.model.name} has {size / 1e9:.1f} GB of weights, and an ONNX file "
            f"holds 2 GiB; take format 'saved_model'"
        )


def _unknown(onnx: Any, model: Any) -> Iterator[tuple[str, str]]:
    """The ops that are none of ONNX's, with their nodes."""
    known = {schema.name for schema in onnx.defs.get_all_schemas()}
    graphs = [model.graph]
    while graphs:
        for node in graphs.pop().node:
            if node.domain not in ("", "ai.onnx") or node.op_type not in known:
                yield node.op_type, node.name
            graphs += [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]


def _layer(model: Any, node: str) -> str:
    """The layer that a node is of, as far as its name tells."""
    names = [re.sub(r"_\d+$", "", part) for part in node.split("/")]
    for layer in model.layers:
        if re.sub(r"_\d+$", "", layer.name) in names:
            return f"the layer {layer.name!r}"
    return "a layer"


def _name_batch(model: Any, served: Any) -> None:
    """Call the open axis by its name, where tf2onnx has numbers."""
    open_ = {name for name, spec in served.inputs.items() if spec.shape[:1] == [None]}
    for value in model.graph.input:
        if value.name in open_:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for value in model.graph.output:
        axes = value.type.tensor_type.shape.dim
        if axes and not axes[0].dim_value:
            axes[0].dim_param = "batch"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what tf2onnx logs of each op: what it cannot convert is looked for afterwards."""
    logs = [logging.getLogger("tf2onnx"), tf.get_logger()]
    levels = [log.level for log in logs]
    try:
        for log in logs:
            log.setLevel(logging.CRITICAL)
        yield
    finally:
        for log, level in zip(logs, levels):
            log.setLevel(level)
