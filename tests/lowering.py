"""The HLO of a function for a GPU, which needs none to be made, and what is read in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import tensorflow as tf

from recops._core import device
from recops.profiling import op_bench


def lower(fn: Callable[..., Any], values: Sequence[Any]) -> str:
    """The HLO of a function for a GPU."""
    jitted = tf.function(fn, jit_compile=True, autograph=False)
    with device.running_on("GPU"):
        return jitted.experimental_get_compiler_ir(*values)(stage="hlo", platform_name="GPU")


def both_ways(fn: Callable[..., Any], inputs: dict[str, Any], constant: Any = ()) -> str:
    """The HLO of forward and backward."""
    body = op_bench.program(fn, list(inputs), backward=True, constant=constant)
    return lower(body, list(inputs.values()))


def skip_where_nothing_lowers() -> None:
    """Skip where this TensorFlow makes no programs for a GPU."""
    try:
        lower(lambda x: x + 1, [tf.constant(1.0)])
    except (TypeError, ValueError, RuntimeError, tf.errors.OpError) as e:
        pytest.skip(f"this TensorFlow cannot lower for a GPU (one built with CUDA can): {e}")


def dots(hlo: str) -> list[tuple[str, list[str]]]:
    """Result and operand types of each product: [("f32", ["bf16", "bf16"])]."""
    types = dict(re.findall(r"(\S+) = (\w+)\[", hlo))
    found = re.findall(r"= (\w+)\[[^=]*? dot\(([^)]*)\)", hlo)
    return [(out, [types[name.split()[-1]] for name in names.split(", ")]) for out, names in found]
