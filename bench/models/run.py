"""Train steps of whole models beside stock Keras layers, into bench/results/models.jsonl.

    python bench/models/run.py [MODEL ...] [--seconds S]  # measure, then write the README's table
    python bench/models/run.py --table                    # the table alone

DIN and DIEN step on 1024 real rows of MovieLens-100K with histories of up to 50 clicks; AutoInt on
4096 rows of Criteo's shape (26 ids of 10,000 values each, 13 numbers), drawn at random, as time
does not depend on values, and so does LSPLM. NeuralCF steps on 4096 ratings of MovieLens, and
YoutubeDNNRetrieval on 1024 next items, with 100 sampled ones. Adam, float32, each model in a graph
and under jit_compile, all in turns; the sampler of stock YoutubeDNN has no XLA kernel, so that one
is in a graph alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT.parent / "examples"), str(Path(__file__).resolve().parent)]

import tensorflow as tf
from stock import StockAutoInt, StockDIN
from stock_dien import StockDIEN
from stock_recall import StockLSPLM, StockNeuralCF, StockYoutubeDNN

from recops import losses, models, profiling
from recops._core import compat
from recops.data import movielens_100k
from recops.features import DenseFeature, SparseFeature
from recops.profiling import op_bench
from recops.training import sized
from recops.version import __version__

ROWS = ROOT / "results" / "models.jsonl"
README = ROOT.parent / "README.md"
BEGIN, END = "<!-- steps -->", "<!-- /steps -->"
keras = compat.keras
_Batch = tuple[list[Any], dict[str, np.ndarray], np.ndarray]


def histories(rows: int = 1024, dim: int = 16, task: str = "sequence") -> _Batch:
    """Features, inputs and labels of the first rows of MovieLens in the order of an epoch."""
    data = movielens_100k(task)
    picked = data.train.order(seed=0, epoch=0)[:rows]
    inputs = {name: values[picked] for name, values in data.train.inputs.items()}
    return sized(data, dim), inputs, data.train.labels[picked]


def criteo_shape(rows: int = 4096, dim: int = 16) -> _Batch:
    """Features, inputs and labels of Criteo's shape."""
    rng = np.random.default_rng(0)
    sparse = [SparseFeature(f"c{i}", 10_000, dim) for i in range(26)]
    dense = [DenseFeature(f"i{i}") for i in range(13)]
    inputs: dict[str, np.ndarray] = {
        f.name: rng.integers(1, 10_001, rows).astype("int32") for f in sparse
    }
    inputs |= {f.name: rng.random((rows, 1)).astype("float32") for f in dense}
    return [*sparse, *dense], inputs, rng.integers(0, 2, (rows, 1)).astype("float32")


CASES: dict[str, tuple[Callable[[], _Batch], Callable[..., Any], Callable[..., Any]]] = {
    "DIN": (histories, models.DIN, StockDIN),
    "DIEN": (histories, models.DIEN, StockDIEN),
    "AutoInt": (criteo_shape, models.AutoInt, StockAutoInt),
    "NeuralCF": (lambda: histories(4096, task="ranking"), models.NeuralCF, StockNeuralCF),
    "LSPLM": (criteo_shape, models.LSPLM, StockLSPLM),
    "YoutubeDNNRetrieval": (
        lambda: histories(task="retrieval"),
        models.YoutubeDNNRetrieval,
        StockYoutubeDNN,
    ),
}
# The output of these is their loss.
_OWN_LOSS = {"YoutubeDNNRetrieval"}
_GRAPH_ALONE = {("YoutubeDNNRetrieval", "stock")}


def measure(name: str, seconds: float) -> list[dict[str, Any]]:
    """A row for each side in a graph and under jit."""
    make, ours, stock = CASES[name]
    features, inputs, labels = make()
    steps, sizes = {}, {}
    for side, build in (("recops", ours), ("stock", stock)):
        for jit in (False,) if (name, side) in _GRAPH_ALONE else (False, True):
            model = build(features)
            loss = losses.identity if name in _OWN_LOSS else "binary_crossentropy"
            model.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=jit)
            taken = {key: tf.constant(inputs[key]) for key in model.input}
            steps[side, "jit" if jit else "graph"] = _step(model, taken, tf.constant(labels))
            sizes[side] = model.count_params()
    timed = profiling.interleave(
        {"/".join(key): step for key, step in steps.items()}, seconds=seconds
    )
    return [
        {
            "model": name,
            "side": side,
            "compiled": compiled,
            "rows": len(labels),
            "parameters": sizes[side],
            "median_ms": timed[f"{side}/{compiled}"].median_ms,
            "p20_ms": timed[f"{side}/{compiled}"].p20_ms,
            "p80_ms": timed[f"{side}/{compiled}"].p80_ms,
            "device": op_bench.device(),
            "threads": profiling.threads(),
            "tf": tf.__version__,
            "keras": compat.KERAS_VERSION,
            "recops": __version__,
        }
        for side, compiled in steps
    ]


def _step(model: Any, inputs: dict[str, Any], labels: Any) -> Callable[[], Any]:
    return lambda: model.train_on_batch(inputs, labels)


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """A line a model: each side's better form, and how many times faster ours is."""
    lines = ["| model | rows | recops ms | stock Keras ms | speed-up |", "|---|---|---|---|---|"]
    for name in dict.fromkeys(row["model"] for row in rows):
        mine, theirs = (
            min(
                (r for r in rows if r["model"] == name and r["side"] == side),
                key=lambda row: row["median_ms"],
            )
            for side in ("recops", "stock")
        )
        lines.append(
            f"| {name} | {mine['rows']} | {mine['median_ms']:.1f} ({mine['compiled']}) "
            f"| {theirs['median_ms']:.1f} ({theirs['compiled']}) "
            f"| {theirs['median_ms'] / mine['median_ms']:.2f}x |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, keep the rows of the models that were measured, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="names of models; all by default")
    parser.add_argument("--table", action="store_true", help="only write the table")
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    unknown = [name for name in options.models if name not in CASES]
    if unknown:
        parser.error(f"expected models among {', '.join(CASES)}, got {', '.join(unknown)}")
    wanted = [] if options.table else options.models or list(CASES)
    before = [json.loads(line) for line in ROWS.read_text().splitlines()] if ROWS.exists() else []
    kept = [row for row in before if row["model"] not in wanted]
    for name in wanted:
        found = measure(name, options.seconds)
        print(summary(found), flush=True)
        kept += found
        ROWS.write_text("".join(json.dumps(row) + "\n" for row in kept))
    before, rest = README.read_text().split(BEGIN)
    README.write_text(f"{before}{BEGIN}\n{summary(kept)}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
