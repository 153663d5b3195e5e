"""Runs exported programs in a process without recops: this file is that process's whole source.

It reads jobs as JSON on stdin: the `format` and `path` of a program, and its `batches`, pairs of
files of arrays by name, one to be read and one to be written.
"""

from __future__ import annotations

import importlib.abc
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np


class _Away(importlib.abc.MetaPathFinder):
    """Recops may be installed here; where a program is served it need not be."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name.partition(".")[0] == "recops":
            raise ModuleNotFoundError(f"{name} is not there where this program runs")


def _saved_model(path: str) -> Callable[..., dict[str, np.ndarray]]:
    import tensorflow as tf

    loaded = tf.saved_model.load(path)  # The weights live as long as this does.
    program = loaded.signatures["serving_default"]

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = program(**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in found.items()}

    run.keeps = loaded  # type: ignore[attr-defined]
    return run


def _onnx(path: str) -> Callable[..., dict[str, np.ndarray]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs)))


def save(path: str, named: dict[str, np.ndarray]) -> None:
    """Write arrays by name; NumPy itself cannot take every name."""
    # Of objects, such as the strings of a tensor, it makes what only a pickle holds.
    arrays = [a.astype("S") if a.dtype == object else a for a in map(np.asarray, named.values())]
    np.savez(path, *arrays, names=np.array(list(named)))


def load(path: str) -> dict[str, np.ndarray]:
    """What `save` has written."""
    with np.load(path) as arrays:
        return {str(name): arrays[f"arr_{i}"] for i, name in enumerate(arrays["names"])}


def main() -> None:
    """Run every job."""
    sys.meta_path.insert(0, _Away())
    formats = {"saved_model": _saved_model, "onnx": _onnx}
    for job in json.load(sys.stdin):
        run = formats[job["format"]](job["path"])
        for inputs, outputs in job["batches"]:
            save(outputs, run(load(inputs)))


if __name__ == "__main__":
    main()
