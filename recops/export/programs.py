"""A program is looked through: which ops it has, and that it needs nothing but TensorFlow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

# Compiled by XLA, or called by it: a server of TensorFlow's own ops need not have it.
_XLA = ("Xla", "_Xla")
_COMPILED = ("_XlaMustCompile", "_XlaCompile", "jit_compile")
# Functions of the Python process that traced them.
_PYTHON = ("PyFunc", "PyFuncStateless", "EagerPyFunc")


def ops_of(program: Any) -> dict[str, int]:
    """How often each type of op occurs in a concrete function and what it calls."""
    return dict(sorted(Counter(node.op for _, node in _nodes(program)).items()))


def refuse_foreign(model: str, program: Any) -> None:
    """Raise ValueError, naming the op, where a program needs more than TensorFlow to run."""
    for function in program.graph.as_graph_def().library.function:
        if any(_is_set(function.attr, name) for name in _COMPILED):
            raise ValueError(
                f"export: {model} has the function {function.signature.name!r} with "
                f"jit_compile=True, which a server without XLA cannot run; write the layer without"
            )
    for where, node in _nodes(program):
        if node.op.startswith(("Recops>", "Recops", *_XLA)) or any(
            _is_set(node.attr, name) for name in _COMPILED
        ):
            raise ValueError(
                f"export: the op {node.op} ({node.name}{where}) of {model} is none of TensorFlow's "
                f"own"
            )
        if node.op in _PYTHON:
            raise ValueError(
                f"export: {node.name}{where} of {model} calls a Python function "
                f"(tf.py_function or tf.numpy_function), which no file can hold"
            )


def _nodes(program: Any) -> Iterator[tuple[str, Any]]:
    graph = program.graph.as_graph_def()
    for node in graph.node:
        yield "", node
    for function in graph.library.function:
        for node in function.node_def:
            yield f" in {function.signature.name}", node


def _is_set(attributes: Any, name: str) -> bool:
    return name in attributes and (attributes[name].b or attributes[name].s == b"true")
