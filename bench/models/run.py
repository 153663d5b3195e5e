"""Train steps of whole models beside stock Keras layers, into bench/results/models.jsonl.

    python bench/models/run.py [CASE ...] [--seconds S]  # measure, then write what shows the rows
    python bench/models/run.py --table                   # README, picture and documents alone

DIN and DIEN step on 1024 real rows of MovieLens-100K with histories of up to 50 clicks; AutoInt on
4096 rows of Criteo's shape (26 ids of 10,000 values each, 13 numbers), drawn at random, as time
does not depend on values, and so does LSPLM. NeuralCF steps on 4096 ratings of MovieLens, and
YoutubeDNNRetrieval on 1024 next items, with 100 sampled ones. Adam, float32, each model in a graph
and under jit_compile, all in turns; the sampler of stock YoutubeDNN has no XLA kernel, so that one
is in a graph alone.

DeepFM-1k, -100k and -1M have 26 fields of so many ids, embeddings of width 16, hidden layers of
256, 128 and 64 and 4096 rows of ids drawn uniformly; ours step with each optimizer, stock Keras
with Adam, and no penalty reads a table. DIN-100k and DIEN-100k have 100,000 items and 1024 full
histories of 50 drawn uniformly. With a million ids a field each form stands alone in memory (Adam
needs 12 GB) and takes turns with LazyAdam on DeepFM-1k.

A case's rows are kept as soon as they are there. DeepFM-1k takes about three minutes, DeepFM-100k
four, DeepFM-1M ten, every other case one to two.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE.parents[1] / "examples"), str(HERE), str(HERE.parent)]

import psutil
import steps_by_rows
import tensorflow as tf
from model_cases import CASES, OPTIMIZERS, TABLES_HELD, Batch, Case

from recops import profiling
from recops._core import compat
from recops.features import SparseFeature
from recops.profiling import op_bench
from recops.version import __version__

ROWS = steps_by_rows.MODELS
BEGIN, END = "<!-- steps -->", "<!-- /steps -->"
Form = tuple[str, str, str]  # side, optimizer, graph or jit


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """What a later measurement of the same takes the place of."""
    return row["case"], row["side"], row["optimizer"], row["compiled"]


def forms(case: Case) -> list[Form]:
    """Everything that is timed of a case."""
    pairs = [*(("recops", name) for name in case.optimizers), ("stock", "adam")]
    return [
        (side, name, compiled)
        for side, name in pairs
        for compiled in (("graph",) if side in case.graph_alone else ("graph", "jit"))
    ]


def stepping(case: Case, form: Form, batch: Batch) -> tuple[Callable[[], Any], int]:
    """A step of one form, and the model's parameters."""
    side, optimizer, compiled = form
    features, inputs, labels = batch
    model = (case.ours if side == "recops" else case.stock)(features)
    model.compile(OPTIMIZERS[optimizer](1e-3), case.loss, jit_compile=compiled == "jit")
    taken = {name: tf.constant(inputs[name]) for name in model.input}
    target = tf.constant(labels)
    return lambda: model.train_on_batch(taken, target), model.count_params()


def measure(name: str, seconds: float) -> Iterator[list[dict[str, Any]]]:
    """Rows of a case: of all forms in turns at once, or of one after the other beside another."""
    case = CASES[name]
    if case.beside is None:
        yield _timed(name, forms(case), None, seconds)
        return
    for form in forms(case):
        needed, free = _bytes(case, form), psutil.virtual_memory().available
        if needed > free:
            print(
                f"{name} {'/'.join(form)} left out: it needs about {needed / 2**30:.0f} GiB and "
                f"{free / 2**30:.0f} are free",
                flush=True,
            )
            continue
        # In a process of its own: neither Keras nor TensorFlow lets go of all that a model held.
        with multiprocessing.get_context("spawn").Pool(1) as alone:
            reference = ("recops", "lazy_adam", form[2])
            yield alone.apply(_timed, (name, [form], reference, seconds))


def _timed(
    name: str, wanted: Sequence[Form], reference: Form | None, seconds: float
) -> list[dict[str, Any]]:
    case = CASES[name]
    batch = case.make()
    steps, sizes = {}, {}
    for form in wanted:
        print(f"{name}: {'/'.join(form)}", flush=True)
        steps[form], sizes[form] = stepping(case, form, batch)
    if reference is not None:
        small = CASES[case.beside]
        steps["reference"], _ = stepping(small, reference, small.make())
    timed = profiling.interleave(steps, seconds=seconds)
    return [
        {
            "model": name.split("-")[0],
            "case": name,
            "ids": case.ids,
            "side": form[0],
            "optimizer": form[1],
            "compiled": form[2],
            "rows": len(batch[2]),
            "parameters": sizes[form],
            "median_ms": timed[form].median_ms,
            "p20_ms": timed[form].p20_ms,
            "p80_ms": timed[form].p80_ms,
            "rounds": timed[form].rounds,
            # LazyAdam on the small tables, in turns with this row.
            "reference_ms": None if reference is None else timed["reference"].median_ms,
            "device": op_bench.device(),
            "threads": profiling.threads(),
            "tf": tf.__version__,
            "keras": compat.KERAS_VERSION,
            "recops": __version__,
        }
        for form in wanted
    ]


def _bytes(case: Case, form: Form) -> int:
    """About what a form holds while it steps."""
    features = [f for f in case.make()[0] if isinstance(f, SparseFeature)]
    table = sum(4 * (f.vocabulary_size + 1) * f.embedding_dim for f in features)
    return TABLES_HELD[form[1]] * table + 2**30


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """A line a case: each side's better form, and how many times faster ours is."""
    lines = ["| model | rows | recops ms | stock Keras ms | speed-up |", "|---|---|---|---|---|"]
    for name in dict.fromkeys(row["case"] for row in rows):
        found = [row for row in rows if row["case"] == name]
        lazy = [row for row in found if row["optimizer"] == "lazy_adam"]
        mine = steps_by_rows.best(lazy or [row for row in found if row["side"] == "recops"])
        theirs = steps_by_rows.best([row for row in found if row["side"] == "stock"])
        if mine and theirs:
            lines.append(
                f"| {_title(mine)} | {mine['rows']} | {mine['median_ms']:.1f} ({mine['compiled']}) "
                f"| {theirs['median_ms']:.1f} ({theirs['compiled']}) "
                f"| {theirs['median_ms'] / mine['median_ms']:.2f}x |"
            )
    return "\n".join(lines)


def _title(row: dict[str, Any]) -> str:
    if row["ids"] is None:
        return row["model"]
    of = "ids a field" if row["model"] == "DeepFM" else "items"
    return f"{row['model']}, {row['ids']:,} {of}, LazyAdam"


def main() -> None:
    """Measure, keep the rows of what was measured, write what shows them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", help="names of cases; all by default")
    parser.add_argument("--table", action="store_true", help="only write what shows the rows")
    parser.add_argument("--seconds", type=float, default=10, help="of rounds in turns (10)")
    options = parser.parse_args()
    unknown = [name for name in options.cases if name not in CASES]
    if unknown:
        parser.error(f"expected cases among {', '.join(CASES)}, got {', '.join(unknown)}")
    wanted = [] if options.table else options.cases or list(CASES)
    rows = {key(row): row for row in steps_by_rows.read(ROWS)}
    for name in wanted:
        for found in measure(name, options.seconds):
            rows |= {key(row): row for row in found}
            ROWS.write_text("".join(json.dumps(row) + "\n" for row in rows.values()))
            for row in found:
                print(
                    f"{name} {row['side']} {row['optimizer']} {row['compiled']}: "
                    f"{row['median_ms']:.1f} ms ({row['p20_ms']:.1f} to {row['p80_ms']:.1f})",
                    flush=True,
                )
    kept = list(rows.values())
    print(summary(kept))
    steps_by_rows.put(steps_by_rows.README, BEGIN, END, summary(kept))
    steps_by_rows.write()


if __name__ == "__main__":
    main()
