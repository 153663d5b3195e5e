"""DeepFM and DIEN on real MovieLens clicks, of recops and of stock Keras, and a report.

    python examples/demo.py --out demo

Both forms of DeepFM are trained with three seeds, in turns, so that noise of the machine meets
both, and both of DIEN with one; so is DeepFM once more over crossed features, whose tables have
millions of rows: with LazyAdam, and of stock Keras with its Adam. Then some ops are timed. What was
found is printed and written to OUT/report.html.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import crosses
import demo_report
import numpy as np
from stock_deepfm import StockDeepFM
from stock_dien import StockDIEN

import recops
from recops import ops
from recops._core.compat import keras
from recops.data import DataError, Dataset, movielens_100k
from recops.features import tables
from recops.models import CATALOGUE, DIEN, DeepFM
from recops.optimizers import LazyAdam
from recops.profiling import op_bench
from recops.training import TRAINING, Result, Settings, sized, train

FUSED, STOCK = "recops layers", "stock Keras layers"
CROSSED = "Crossed DeepFM"


@dataclass(frozen=True)
class Pair:
    """A model of recops layers and of stock ones, and how both are trained."""

    forms: Mapping[str, Callable[..., Any]]
    settings: Settings
    optimizers: Mapping[str, Any] = field(
        default_factory=lambda: dict.fromkeys((FUSED, STOCK), keras.optimizers.Adam)
    )
    compile: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {FUSED: {}, STOCK: {}})


def _of_all_rows(settings: Settings) -> Settings:
    """With the penalty that stock layers have as well."""
    options = {k: v for k, v in settings.options.items() if k != "l2_embedding_rows"}
    return replace(settings, options=options)


_GRAPH = {"jit_compile": False}
TRAINED = {
    "DeepFM": Pair({FUSED: DeepFM, STOCK: StockDeepFM}, _of_all_rows(TRAINING["DeepFM"])),
    # Keras's GRU switches XLA off for its model, so DIEN of either form goes without.
    "DIEN": Pair(
        {FUSED: DIEN, STOCK: StockDIEN}, TRAINING["DIEN"], compile={FUSED: _GRAPH, STOCK: _GRAPH}
    ),
    # Chosen by validation AUC, of both forms. A penalty of the embeddings would read all rows.
    CROSSED: Pair(
        {FUSED: DeepFM, STOCK: partial(StockDeepFM, one_table=True)},
        Settings(
            embedding_dim=8,
            batch_size=1024,
            learning_rate=3e-3,
            patience=1,
            options={"dropout": 0.5},
        ),
        optimizers={FUSED: LazyAdam, STOCK: keras.optimizers.Adam},
        # Each as it is faster; of stock Keras, one table with XLA is the fastest of four ways.
        compile={FUSED: _GRAPH, STOCK: {"jit_compile": True}},
    ),
}
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
    """A line of the table: mean and standard deviation over the seeds, none of a single seed."""

    name: str
    figures: dict[str, tuple[float, float | None]]

    def cells(self) -> list[str]:
        """The figures as text."""
        return [
            self.name,
            *(_spread(*self.figures[k]) for k in demo_report.SCORES),
            *(f"{self.figures[k][0]:,.0f}" for k in ("rows", "parameters", "samples/s")),
            *(f"{self.figures[k][0]:.2f}" for k in ("ms/step",)),
        ]


def _spread(center: float, deviation: float | None) -> str:
    return f"{center:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")


def build(name: str, kind: str, data: Dataset, seed: int) -> Any:
    """A model in one of its two forms, compiled alike."""
    pair, settings = TRAINED[name], TRAINED[name].settings
    features = sized(data, settings.embedding_dim)
    model = pair.forms[kind](features, seed=seed, **settings.options)
    optimizer = pair.optimizers[kind](settings.learning_rate)
    model.compile(optimizer, "binary_crossentropy", **pair.compile[kind])
    return model


def compare(name: str, data: Dataset, seeds: int, epochs: int) -> dict[str, list[Result]]:
    """Train both forms once a seed, in turns; each is first every other time."""
    results: dict[str, list[Result]] = {FUSED: [], STOCK: []}
    settings = TRAINED[name].settings
    for seed in range(seeds):
        for kind in (FUSED, STOCK) if seed % 2 == 0 else (STOCK, FUSED):
            print(f"\n{name} of {kind}, seed {seed}", flush=True)
            result = train(
                build(name, kind, data, seed),
                data,
                epochs=epochs,
                batch_size=settings.batch_size,
                patience=settings.patience,
                seed=seed,
            )
            print(result, flush=True)
            results[kind].append(result)
    return results


def summarize(name: str, results: dict[str, list[Result]], data: Dataset) -> list[Line]:
    """A model's lines of the table."""
    lines = []
    for kind, runs in results.items():
        columns = {
            **{score: [run.test[score] for run in runs] for score in demo_report.SCORES},
            "rows": [sum(tables(data.features).values()) for _ in runs],
            "parameters": [run.model.count_params() for run in runs],
            "samples/s": [run.samples_per_second for run in runs],
            "ms/step": [run.ms_per_step for run in runs],
        }
        lines.append(
            Line(
                f"{name} of {kind}",
                {
                    column: (mean(values), stdev(values) if len(values) > 1 else None)
                    for column, values in columns.items()
                },
            )
        )
    return lines


def verdict(name: str, lines: Sequence[Line]) -> str:
    """A model's two lines in words."""
    gap = abs(lines[0].figures["auc"][0] - lines[1].figures["auc"][0])
    fused, stock = (line.figures["ms/step"][0] for line in lines)
    lazy, plain = (" and LazyAdam", " and Adam") if name == CROSSED else ("", "")
    return (
        f"{name}: the mean test AUCs are {gap:.4f} apart; a step takes {fused:.2f} ms with recops "
        f"layers{lazy} and {stock:.2f} ms with stock ones{plain} ({stock / fused:.2f}x)."
    )


def large_tables(lines: Sequence[Line], data: Dataset) -> demo_report.LargeTables:
    """What a step of the crossed pair costs, and how many rows it has to do with."""
    batch_size = TRAINED[CROSSED].settings.batch_size
    names = [name for name in tables(data.features) if name in data.train.inputs]
    order = data.train.order(seed=0, epoch=0)
    steps = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]

    def distinct(rows: Any) -> int:
        return sum(len(np.unique(data.train.inputs[name][rows])) for name in names)

    return demo_report.LargeTables(
        milliseconds=tuple(line.figures["ms/step"][0] for line in lines),
        rows=round(lines[0].figures["rows"][0]),
        rows_trained=distinct(slice(None)),
        rows_a_step=round(mean(distinct(step) for step in steps)),
        batch_size=batch_size,
        buckets=crosses.BUCKETS,
        pairs=crosses.PAIRS,
    )


def time_ops(names: Sequence[str], seconds: float) -> list[op_bench.Row]:
    """Rows of the smoke cases, forward+backward, until the time is used up."""
    rows: list[op_bench.Row] = []
    end = time.monotonic() + seconds
    for case in op_bench.cases("smoke", names):
        if time.monotonic() > end:
            print(f"  left for `recops bench`: {case.op}", flush=True)
            continue
        print(f"  {case.op} {case.name}", flush=True)
        found = op_bench.run(case, "float32", seconds=0.3)
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
    parser.add_argument("--epochs", type=int, default=8, help="most epochs of each DeepFM")
    parser.add_argument("--dien-epochs", type=int, default=3, help="most epochs of each DIEN")
    parser.add_argument("--crossed-epochs", type=int, default=3, help="most of each crossed DeepFM")
    parser.add_argument("--bench-seconds", type=float, default=60, help="no op begins after this")
    options = parser.parse_args(argv)
    started = time.monotonic()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        data = {name: movielens_100k(CATALOGUE[name].task) for name in ("DeepFM", "DIEN")}
    except (DataError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    data[CROSSED] = crosses.crossed(data["DeepFM"])
    print(f"{len(data['DeepFM'].train):,} clicks and non-clicks to train on, {ran_on()}")
    results = {
        "DeepFM": compare("DeepFM", data["DeepFM"], options.seeds, options.epochs),
        "DIEN": compare("DIEN", data["DIEN"], 1, options.dien_epochs),
        CROSSED: compare(CROSSED, data[CROSSED], 1, options.crossed_epochs),
    }
    lines = {name: summarize(name, found, data[name]) for name, found in results.items()}
    cells = [line.cells() for pair in lines.values() for line in pair]
    print("\nOps, forward and backward:")
    rows = time_ops(OPS, options.bench_seconds)

    print("\n" + demo_report.text_table(cells))
    verdicts = [
        *(verdict(name, pair) for name, pair in lines.items()),
        f"Measured with {ran_on()}.",
    ]
    print("\n".join(verdicts))
    page = options.out / "report.html"
    demo_report.write(
        page,
        verdicts=verdicts,
        cells=cells,
        large=large_tables(lines[CROSSED], data[CROSSED]),
        curves={
            name: {kind: [run.epochs for run in runs] for kind, runs in found.items()}
            for name, found in results.items()
        },
        rows=rows,
        data=data["DeepFM"],
        backend=ran_on(),
        minutes=(time.monotonic() - started) / 60,
    )
    print(f"report: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
