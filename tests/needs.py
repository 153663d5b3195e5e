"""What single tests need and not every TensorFlow and Keras has: the marker `needs` names it.

`@pytest.mark.needs("keras3")`, or with a reason of the test's own as a second argument.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import tensorflow as tf

from recops._core import compat, native
from recops._core.compat import keras


def refusal_in(mode: str) -> str | None:
    """What the native kernels say where the TensorFlow here cannot call them in a mode."""
    return native.why_not(jit=mode == "jit")


def _backend_in_mode(parameters: Mapping[str, Any]) -> str | None:
    if parameters["backend"] != "cpp":
        return None
    jit = parameters.get("mode") == "jit" or parameters.get("jit")
    return refusal_in("jit" if jit else "graph")


def _optimizer(name: str) -> str | None:
    return None if hasattr(keras.optimizers, name) else f"this Keras has no {name}"


def _package(name: str) -> str | None:
    return None if importlib.util.find_spec(name) else f"{name} is not installed"


# Why a test that needs it cannot run here, or None.
NEEDS: dict[str, Callable[[Mapping[str, Any]], str | None]] = {
    "keras3": lambda _: None if compat.KERAS_3 else "of Keras 3",
    "cpp": lambda _: refusal_in("eager"),
    # For a test with the parameters `backend`, and `mode` or `jit`.
    "backend in mode": _backend_in_mode,
    "MultiOptimizer": lambda _: _optimizer("MultiOptimizer"),
    "LossScaleOptimizer": lambda _: _optimizer("LossScaleOptimizer"),
    "tf_keras": lambda _: _package("tf_keras"),
    "tensorflow_addons": lambda _: _package("tensorflow_addons"),
}


def skip_what_cannot_run(item: pytest.Item) -> None:
    """Skip a test that needs what is not there, with the reason."""
    for marker in item.iter_markers("needs"):
        name, *own = marker.args
        reason = NEEDS[name](item.callspec.params if hasattr(item, "callspec") else {})
        if reason is not None:
            where = f"TensorFlow {tf.__version__}, {compat.legacy_keras()}"
            pytest.skip(f"{own[0] if own else reason} ({where})")
