"""DeepFM on real MovieLens clicks, of recops layers and of stock Keras layers, and a report.

    python examples/demo.py --out demo

Both models are trained with three seeds, in turns, so that noise of the machine meets both. Then
some ops are timed. What was found is printed and written to OUT/report.html.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import demo_report
from stock_deepfm import StockDeepFM

import recops
from recops import benchmark, ops
from recops._core.compat import keras
from recops.data import DataError, Dataset, movielens_100k
from recops.models import DeepFM
from recops.training import TRAINING, Result, sized, train

FUSED, STOCK = "recops layers", "stock Keras layers"
# Timing starts with the ops whose reference is quick to trace; the rest waits for `recops bench`.
OPS = (
    "fm_interaction",
    "embedding_lookup",
    "bi_interaction",
    "pairwise_inner",
    "pairwise_hadamard",
    "cross_network",
    "outer_product",
    "attentional_pooling",
)


@dataclass(frozen=True)
class Line:
    """One line of the table: figures of a model over its seeds, (mean, standard deviation)."""

    name: str
    figures: dict[str, tuple[float, float]]

    def cells(self) -> list[str]:
        """The figures as text."""
        return [
            self.name,
            *(f"{self.figures[k][0]:.4f} ± {self.figures[k][1]:.4f}" for k in demo_report.SCORES),
            *(f"{self.figures[k][0]:,.0f}" for k in ("samples/s",)),
            *(f"{self.figures[k][0]:.2f}" for k in ("ms/step",)),
        ]


def build(kind: str, data: Dataset, seed: int) -> Any:
    """One of the two models, compiled alike."""
    settings = TRAINING["DeepFM"]
    make = DeepFM if kind == FUSED else StockDeepFM
    model = make(sized(data, settings.embedding_dim), seed=seed, **settings.options)
    model.compile(keras.optimizers.Adam(settings.learning_rate), "binary_crossentropy")
    return model


def compare(data: Dataset, seeds: int, epochs: int) -> dict[str, list[Result]]:
    """Train both models once a seed, in turns; each is first every other time."""
    results: dict[str, list[Result]] = {FUSED: [], STOCK: []}
    for seed in range(seeds):
        for kind in (FUSED, STOCK) if seed % 2 == 0 else (STOCK, FUSED):
            print(f"\nDeepFM of {kind}, seed {seed}", flush=True)
            result = train(
                build(kind, data, seed),
                data,
                epochs=epochs,
                batch_size=TRAINING["DeepFM"].batch_size,
                seed=seed,
            )
            print(result, flush=True)
            results[kind].append(result)
    return results


def summarize(results: dict[str, list[Result]]) -> list[Line]:
    """The table."""
    lines = []
    for kind, runs in results.items():
        columns = {
            **{name: [run.test[name] for run in runs] for name in demo_report.SCORES},
            "samples/s": [run.samples_per_second for run in runs],
            "ms/step": [run.ms_per_step for run in runs],
        }
        lines.append(
            Line(
                f"DeepFM of {kind}",
                {
                    name: (mean(values), stdev(values) if len(values) > 1 else 0.0)
                    for name, values in columns.items()
                },
            )
        )
    return lines


def time_ops(names: Sequence[str], seconds: float) -> list[benchmark.Row]:
    """Rows of the smoke cases, forward+backward, until the time is used up."""
    rows: list[benchmark.Row] = []
    end = time.monotonic() + seconds
    for case in benchmark.cases("smoke", names):
        if time.monotonic() > end:
            print(f"  left for `recops bench`: {case.op}", flush=True)
            continue
        print(f"  {case.op} {case.name}", flush=True)
        found = benchmark.run(case, "float32", seconds=0.3)
        rows += [row for row in found if row.mode == "forward+backward"]
    return rows


def ran_on() -> str:
    """Which backend the layers had, in words."""
    chosen = ops.select("fm_interaction", [[[1.0], [2.0]]])
    return f"backend {chosen} (asked for: {recops.info().backend})"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; 2 when the data cannot be had or the report cannot be written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder of report.html")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8, help="most epochs of each training")
    parser.add_argument("--bench-seconds", type=float, default=60, help="no op begins after this")
    options = parser.parse_args(argv)
    started = time.monotonic()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        data = movielens_100k()
    except (DataError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    print(f"{len(data.train):,} clicks and non-clicks to train on, {ran_on()}")
    results = compare(data, options.seeds, options.epochs)
    lines = summarize(results)
    print("\nOps, forward and backward:")
    rows = time_ops(OPS, options.bench_seconds)

    print("\n" + demo_report.text_table([line.cells() for line in lines]))
    gap = abs(lines[0].figures["auc"][0] - lines[1].figures["auc"][0])
    fused, stock = (line.figures["ms/step"][0] for line in lines)
    verdict = (
        f"The mean test AUCs are {gap:.4f} apart. A step takes {fused:.2f} ms with recops layers "
        f"and {stock:.2f} ms with stock ones ({stock / fused:.2f}x), with {ran_on()}."
    )
    print(verdict)
    page = options.out / "report.html"
    demo_report.write(
        page,
        verdict=verdict,
        cells=[line.cells() for line in lines],
        curves={kind: [run.epochs for run in runs] for kind, runs in results.items()},
        rows=rows,
        data=data,
        backend=ran_on(),
        minutes=(time.monotonic() - started) / 60,
    )
    print(f"report: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
