"""Hidden layers in float32 and bfloat16, in a graph and under jit, Keras's products and ours.

python bench/hidden.py [--table]
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from recops import ops
from recops._core.activations import ACTIVATIONS
from recops.profiling import interleave
from recops.profiling.op_bench import device

ROOT = Path(__file__).resolve().parents[1]
ROWS = ROOT / "bench" / "results" / "hidden.jsonl"
DOC = ROOT / "docs" / "native.md"
BEGIN, END = "<!-- hidden -->", "<!-- /hidden -->"


class Layers(NamedTuple):
    """A stack of dense layers on a matrix [rows, sizes[0]]."""

    rows: int
    sizes: tuple[int, ...]
    activation: str


# Of CTR models at 4,096 examples, and of DIEN's auxiliary loss at 1,024 of 50 steps.
STACKS = (
    Layers(4096, (416, 128, 64, 32), "relu"),
    Layers(4096, (416, 256, 128, 64), "relu"),
    Layers(4096, (416, 400, 400, 400), "relu"),
    Layers(2 * 1024 * 49, (64, 100, 50), "sigmoid"),
)
FORMS = tuple(itertools.product(("float32", "bfloat16"), ("graph", "jit"), ("tensorflow", "ours")))


def step(stack: Layers, dtype: str, compiled: str, whose: str) -> Callable[[], Any]:
    """Forward and gradients, weights in float32 as mixed policies have them."""
    pairs = list(itertools.pairwise(stack.sizes))
    weights = [tf.Variable(tf.random.normal(pair, stddev=0.05)) for pair in pairs]
    biases = [tf.Variable(tf.zeros(units)) for _, units in pairs]
    x = tf.cast(tf.random.normal([stack.rows, stack.sizes[0]]), dtype)
    function, _ = ACTIVATIONS[stack.activation]

    def layer(x: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        if whose == "ours":
            return ops.dense(x, weight, bias, stack.activation)
        return function(tf.nn.bias_add(tf.matmul(x, weight), bias))

    def run(x: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            hidden = x
            for weight, bias in zip(weights, biases):
                hidden = layer(hidden, tf.cast(weight, dtype), tf.cast(bias, dtype))
            loss = tf.reduce_sum(tf.cast(hidden, tf.float32))
        return tape.gradient(loss, [x, *weights, *biases])

    traced = tf.function(run, jit_compile=compiled == "jit")
    return lambda: traced(x)


def measure() -> list[dict[str, Any]]:
    """A row for each stack of layers and form, those of one stack in turns."""
    rows = []
    for stack in STACKS:
        forms = {"/".join(form): step(stack, *form) for form in FORMS}
        flops = 6 * stack.rows * sum(a * b for a, b in itertools.pairwise(stack.sizes))
        for form, timing in interleave(forms, seconds=4).items():
            dtype, compiled, whose = form.split("/")
            rows.append(
                {
                    "rows": stack.rows,
                    "layers": list(stack.sizes),
                    "activation": stack.activation,
                    "dtype": dtype,
                    "compiled": compiled,
                    "whose": whose,
                    "median_ms": timing.median_ms,
                    "gflops": flops / timing.median_ms / 1e6,
                    "device": device(),
                    "tf": tf.__version__,
                }
            )
            print(rows[-1], flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """A line a stack of layers: the milliseconds of each form."""
    found = {
        (tuple(r["layers"]), r["rows"], r["dtype"], r["compiled"], r["whose"]): r for r in rows
    }
    heads = " | ".join(f"{d}, {c}, {w}" for d, c, w in FORMS)
    lines = [f"| rows x layers | {heads} |", "|---" * (1 + len(FORMS)) + "|"]
    for sizes, count in dict.fromkeys(key[:2] for key in found):
        cells = [found[(sizes, count, *form)] for form in FORMS]
        shown = " | ".join(f"{r['median_ms']:.1f}" for r in cells)
        lines.append(f"| {count:,} x {' - '.join(map(str, sizes))} | {shown} |")
    return "\n".join(lines) + f"\n\nMilliseconds; {rows[0]['device']}, TensorFlow {rows[0]['tf']}."


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
