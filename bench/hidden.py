"""Hidden layers in float32 and bfloat16, in a graph and under jit: where 16 bit pays on a CPU.

python bench/hidden.py [--table]
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from recops.profiling import interleave
from recops.profiling.op_bench import device

ROOT = Path(__file__).resolve().parents[1]
ROWS = ROOT / "bench" / "results" / "hidden.jsonl"
DOC = ROOT / "docs" / "native.md"
BEGIN, END = "<!-- hidden -->", "<!-- /hidden -->"
BATCH = 4096
LAYERS = ((416, 128, 64, 32), (416, 256, 128, 64), (416, 400, 400, 400))
FORMS = tuple(itertools.product(("float32", "bfloat16"), ("graph", "jit")))


def step(sizes: tuple[int, ...], dtype: str, compiled: str) -> Callable[[], Any]:
    """Forward and gradients of dense layers with ReLU, weights in float32 as mixed policies do."""
    pairs = list(itertools.pairwise(sizes))
    weights = [tf.Variable(tf.random.normal(pair, stddev=0.05)) for pair in pairs]
    x = tf.cast(tf.random.normal([BATCH, sizes[0]]), dtype)

    def run(x: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            hidden = x
            for weight in weights:
                hidden = tf.nn.relu(tf.matmul(hidden, tf.cast(weight, dtype)))
            loss = tf.reduce_sum(tf.cast(hidden, tf.float32))
        return tape.gradient(loss, [x, *weights])

    traced = tf.function(run, jit_compile=compiled == "jit")
    return lambda: traced(x)


def measure() -> list[dict[str, Any]]:
    """A row for each stack of layers, dtype and mode, those of one stack in turns."""
    rows = []
    for sizes in LAYERS:
        forms = {f"{dtype}/{compiled}": step(sizes, dtype, compiled) for dtype, compiled in FORMS}
        flops = 6 * BATCH * sum(a * b for a, b in itertools.pairwise(sizes))
        for form, timing in interleave(forms, seconds=4).items():
            dtype, compiled = form.split("/")
            rows.append(
                {
                    "layers": list(sizes),
                    "dtype": dtype,
                    "compiled": compiled,
                    "median_ms": timing.median_ms,
                    "gflops": flops / timing.median_ms / 1e6,
                    "device": device(),
                    "tf": tf.__version__,
                }
            )
            print(rows[-1], flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """A line a stack of layers: milliseconds and GFLOP/s of each form."""
    found = {(tuple(r["layers"]), r["dtype"], r["compiled"]): r for r in rows}
    lines = ["| layers | " + " | ".join(f"{d}, {c}" for d, c in FORMS) + " |", "|---" * 5 + "|"]
    for sizes in dict.fromkeys(key[0] for key in found):
        cells = [found[(sizes, *form)] for form in FORMS]
        shown = " | ".join(f"{r['median_ms']:.1f} ms, {r['gflops']:.0f} GFLOP/s" for r in cells)
        lines.append(f"| {' - '.join(map(str, sizes))} | {shown} |")
    return "\n".join(lines) + f"\n\n{rows[0]['device']}, TensorFlow {rows[0]['tf']}."


def main() -> None:
    """Measure unless told otherwise, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="write the table of the kept rows")
    if not parser.parse_args().table:
        ROWS.write_text("".join(json.dumps(row) + "\n" for row in measure()))
    rows = [json.loads(line) for line in ROWS.read_text().splitlines()]
    before, rest = DOC.read_text().split(BEGIN)
    DOC.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
