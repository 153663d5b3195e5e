"""Train steps of DeepCTR's models before and after `recops.accelerate`, into docs/peers.md.

    python bench/peers/accelerate.py [CASE ...] [--seconds S]  # measure, then write the table
    python bench/peers/accelerate.py --table                   # the table alone

DeepCTR's models as they are built there, with their penalties: 4096 rows of 26 fields of 1,000 ids
drawn at random, embeddings of width 16, hidden layers of 256, 128 and 64, Adam. One process in
DeepCTR's environment (`make peers`) holds the model and what `recops.accelerate` makes of it, and
the two take turns, a step each. `DeepFM-100k` has 100,000 ids a field and no penalties, with which
no gradient is of rows, and may change its optimizer ("lazy"); the others keep Adam. The rows are
kept in bench/results/accelerate.jsonl.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from process import DEEPCTR as PYTHON
from process import ROOT, stepping

from recops import profiling
from recops.features import SparseFeature, to_config
from recops.profiling import op_bench

ROWS = ROOT / "bench" / "results" / "accelerate.jsonl"
DOC = ROOT / "docs" / "peers.md"
BEGIN, END = "<!-- accelerate -->", "<!-- /accelerate -->"
BEFORE, AFTER = "before", "after"
BATCH, FIELDS, DIM = 4096, 26, 16


@dataclass(frozen=True)
class Case:
    """A model of DeepCTR, what it is built with, and what may become of its optimizer."""

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    ids: int = 1000
    optimizer: str = "keep"


_FREE = {"l2_reg_embedding": 0, "l2_reg_linear": 0}
CASES = {
    "xDeepFM": Case("xDeepFM"),
    "AFM": Case("AFM"),
    "PNN": Case("PNN"),
    "AutoInt": Case("AutoInt"),
    "FiBiNET": Case("FiBiNET"),
    "DeepFM": Case("DeepFM"),
    "NFM": Case("NFM"),
    "DCN": Case("DCN"),
    "DCN-matrix": Case("DCN", {"cross_parameterization": "matrix"}),
    "DeepFM-100k": Case("DeepFM", _FREE, 100_000, "lazy"),
}


def batch(ids: int) -> tuple[list[SparseFeature], dict[str, np.ndarray], np.ndarray]:
    """Features, inputs and labels."""
    rng = np.random.default_rng(0)
    features = [SparseFeature(f"c{i}", ids, DIM) for i in range(FIELDS)]
    inputs = {f.name: rng.integers(1, ids + 1, BATCH).astype("int32") for f in features}
    return features, inputs, rng.integers(0, 2, (BATCH, 1)).astype("float32")


def measure(name: str, seconds: float) -> list[dict[str, Any]]:
    """A row of the model as it comes and one of what it became."""
    case = CASES[name]
    features, inputs, labels = batch(case.ids)
    asked = {"model": case.model, "options": case.options, "optimizer": case.optimizer}
    asked["features"] = to_config(features)
    with stepping(name, PYTHON, "step_accelerated.py", asked, inputs, labels) as (step, said):
        timed = profiling.interleave(
            {BEFORE: lambda: step(0), AFTER: lambda: step(1)}, seconds=seconds
        )
    return [
        {
            "case": name,
            "side": side,
            "rows": BATCH,
            "ids": case.ids,
            "optimizer": case.optimizer,
            "median_ms": timed[side].median_ms,
            "p20_ms": timed[side].p20_ms,
            "p80_ms": timed[side].p80_ms,
            "rounds": timed[side].rounds,
            "device": op_bench.device(),
            "threads": profiling.threads(),
            **said,
        }
        for side in (BEFORE, AFTER)
    ]


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """A line a case: milliseconds of a step before and after, and what was swapped."""
    lines = ["| model | before ms | after ms | speed-up | swapped |", "|---|---|---|---|---|"]
    of = {(row["case"], row["side"]): row for row in rows}
    for name in dict.fromkeys(row["case"] for row in rows):
        before, after = of[name, BEFORE], of[name, AFTER]
        ratio = before["median_ms"] / after["median_ms"]
        swapped = ", ".join(dict.fromkeys(was for _, was, _ in after["swapped"]))
        lines.append(
            f"| {name} | {before['median_ms']:.1f} | {after['median_ms']:.1f} | {ratio:.2f}x "
            f"| {swapped} |"
        )
    if rows:
        last = rows[-1]
        lines += [
            "",
            f"{last['device']}, {last['threads']} threads; DeepCTR 0.9.4 and recops "
            f"{last['recops']} on TensorFlow {last['tf']} and Keras {last['keras']}.",
        ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, keep the rows of the cases that were measured, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", help="of the table; all by default")
    parser.add_argument("--table", action="store_true", help="only write the table")
    parser.add_argument("--seconds", type=float, default=20, help="of rounds in turns (20)")
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--doc", type=Path, default=DOC)
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.cases if name not in CASES]:
        parser.error(f"expected cases among {', '.join(CASES)}, got {', '.join(unknown)}")
    wanted = [] if options.table else options.cases or list(CASES)
    if wanted and not PYTHON.exists():
        print("DeepCTR is not installed; `make peers` installs it", file=sys.stderr)
        return 2
    path = options.rows
    before = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    rows = {(row["case"], row["side"]): row for row in before}
    for name in wanted:
        found = measure(name, options.seconds)
        print(summary(found), flush=True)
        rows |= {(row["case"], row["side"]): row for row in found}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows.values()))
    text, rest = options.doc.read_text().split(BEGIN)
    made = summary(list(rows.values()))
    options.doc.write_text(f"{text}{BEGIN}\n{made}\n{END}{rest.split(END)[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
