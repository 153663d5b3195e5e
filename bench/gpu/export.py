"""Lower the bench cases of all ops to XLA's HLO for a GPU, on a machine that has none.

python bench/gpu/export.py BUILD [--op OP ...] [--dtype DTYPE] [--tag bench]

Each backend that XLA compiles and each stock form becomes one program, forward and backward of one
call. BUILD gets a serialized HLO module a program, an npz of the inputs a case, and `index.jsonl`,
which says what belongs together. Floats travel as their range alone and are drawn again where they
are needed: tables and field pairs of real size would take gigabytes.

The HLO holds source paths of this machine, so BUILD must stay out of version control.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import numpy as np
import tensorflow as tf
from arrays import described, floating

from recops._core import device
from recops._core.cases import Case
from recops.profiling import op_bench

DTYPES = ("float32", "bfloat16")


def lower(fn: Callable[..., Any], values: list[Any]) -> tuple[bytes, list[np.ndarray]]:
    """The HLO module of a function for a GPU, and the constants that it takes as more inputs."""
    jitted = tf.function(fn, jit_compile=True, autograph=False)
    captured = jitted.get_concrete_function(*values).captured_inputs
    ir = jitted.experimental_get_compiler_ir(*values)
    return (
        ir(stage="hlo_serialized", platform_name="GPU"),
        [tensor.numpy() for tensor in captured],
    )


def programs(case: Case) -> Iterator[tuple[str, Callable[..., Any]]]:
    """What XLA compiles of a case: backends but the reference, and the stock forms."""
    for (provider, compiled), fn in op_bench.providers(case).items():
        if compiled == "jit" and provider != "cpp":
            yield provider, fn


def export(case: Case, dtype: str, build: Path) -> Iterator[dict[str, Any]]:
    """Write all programs of a case; yields their lines of the index."""
    arrays = case.arrays(dtype)
    flat = tf.nest.flatten(list(arrays.values()))
    tensors = {name: tf.nest.map_structure(tf.constant, value) for name, value in arrays.items()}
    for provider, fn in programs(case):
        if provider.startswith("stock."):
            fn(**tensors)  # a form may make its layers at its first call, which must not be traced
        body = op_bench.program(fn, list(tensors), True, case.constant)
        name = f"{case.op}-{case.name}-{provider}-{dtype}"
        row = {
            "name": name,
            "op": case.op,
            "case": case.name,
            "provider": provider,
            "dtype": dtype,
            "tf": tf.__version__,
        }
        try:
            hlo, captured = lower(body, list(tensors.values()))
        except (ValueError, RuntimeError, NotImplementedError, tf.errors.OpError) as e:
            yield row | {"status": f"not lowered: {reason(e)}"}
            continue
        (build / f"{name}.hlo.pb").write_bytes(hlo)
        inputs = [*flat, *captured]
        exact = {
            str(i): array for i, array in enumerate(inputs) if i >= len(flat) or not floating(array)
        }
        np.savez_compressed(build / f"{name}.npz", **exact)
        yield row | {"inputs": [described(array) for array in inputs]}


def reason(error: Exception) -> str:
    """What XLA says of an op that it does not have, or else the start of the message."""
    text = str(error)
    missing = re.search(r"No registered '(\w+)' OpKernel", text) or re.search(
        r"unsupported operations.*?(\w+)", text
    )
    return f"XLA has no {missing[1]}" if missing else " ".join(text.split())[:100]


def main() -> None:
    """Lower the cases that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=Path)
    parser.add_argument("--op", action="append", default=[], help="an op; all if left out")
    parser.add_argument("--dtype", action="append", choices=DTYPES, help="both if left out")
    parser.add_argument("--tag", default="bench", help="which cases: bench, smoke or test")
    options = parser.parse_args()
    options.build.mkdir(parents=True, exist_ok=True)
    index = options.build / "index.jsonl"
    kept = [json.loads(line) for line in index.read_text().splitlines()] if index.exists() else []
    rows = {row["name"]: row for row in kept}
    # An update of variables has no gradient; tests/test_gpu_lowering.py reads what it becomes.
    cases = [case for case in op_bench.cases(options.tag, options.op) if not case.updated]
    with device.running_on("GPU"):
        for case, dtype in itertools.product(cases, options.dtype or DTYPES):
            for row in export(case, dtype, options.build):
                rows[row["name"]] = row
                print(row["name"], row.get("status", "lowered"), flush=True)
                index.write_text("".join(json.dumps(r) + "\n" for r in rows.values()))


if __name__ == "__main__":
    main()
