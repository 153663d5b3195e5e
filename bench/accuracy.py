"""Accuracy of models on MovieLens 100K, model x seed, into docs/accuracy.md.

    python bench/accuracy.py [MODEL ...] [--seeds 0 1 2] [--rows FILE] [--doc FILE]

Each finished training is a line of FILE; what stands there already is not trained again, so that a
run which was stopped goes on where it was. The table in the document is made from all lines.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import accuracy_baseline

from recops.data import movielens_100k
from recops.models import CATALOGUE
from recops.training import train_named
from recops.version import __version__

FIGURES = ("auc", "logloss", "gauc")
BEGIN, END = "<!-- table -->", "<!-- /table -->"
ROOT = Path(__file__).resolve().parent


def read(path: Path) -> list[dict[str, Any]]:
    """The lines written so far; one cut off by a kill is dropped."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows


def append(path: Path, row: dict[str, Any]) -> None:
    """Add a line, on a line of its own even where a kill cut off the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cut_off = path.exists() and not path.read_bytes().endswith(b"\n")
    with path.open("a") as f:
        f.write(("\n" if cut_off else "") + json.dumps(row) + "\n")


def done(path: Path) -> set[tuple[str, int | None]]:
    """Model and seed of each line."""
    return {(row["model"], row["seed"]) for row in read(path)}


def train(names: Sequence[str], seeds: Sequence[int], path: Path) -> None:
    """Train what is missing, and the baselines of each task."""
    baseline = "logistic regression"
    if (baseline, None) not in done(path):
        found = accuracy_baseline.fit(movielens_100k())
        append(path, {"model": baseline, "seed": None, "test": found["test"]})
    tasks = {name: CATALOGUE[name].task for name in names}
    if "sequence" in tasks.values():
        tasks[accuracy_baseline.WITHOUT_HISTORY] = "ranking"
    for name, task in tasks.items():
        for seed in seeds:
            # Another run may have added it meanwhile.
            if (name, seed) in done(path):
                continue
            if name in CATALOGUE:
                result = train_named(name, seed=seed, verbose=0)
            else:
                result = accuracy_baseline.train_without_history(seed)
            row = {
                "model": name,
                "task": task,
                "seed": seed,
                "test": {figure: result.test[figure] for figure in FIGURES},
                "validation_auc": result.validation_auc,
                "best_epoch": result.best_epoch,
                "recops": __version__,
            }
            append(path, row)
            print(json.dumps(row), flush=True)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Mean and standard deviation of the test figures, a model a line, in order of AUC."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        # The first lines were written when there was one task.
        groups.setdefault((row["model"], row.get("task", "ranking")), []).append(row["test"])
    lines = ["| model | task | runs | test AUC | log loss | GAUC |", "|---|---|---|---|---|---|"]
    for (name, task), tests in sorted(
        groups.items(), key=lambda item: -statistics.mean(t["auc"] for t in item[1])
    ):
        cells = []
        for figure in FIGURES:
            values = [test[figure] for test in tests]
            spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.4f}{spread}")
        lines.append(f"| {name} | {task} | {len(tests)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write(doc: Path, made: str, begin: str, end: str) -> None:
    """Put a table into a document, between two markers."""
    before, rest = doc.read_text().split(begin)
    doc.write_text(f"{before}{begin}\n{made}\n{end}{rest.split(end)[1]}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="names of models; all by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", type=Path, default=ROOT / "results" / "accuracy.jsonl")
    parser.add_argument("--doc", type=Path, default=ROOT.parent / "docs" / "accuracy.md")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.models if name not in CATALOGUE]
    if unknown:
        parser.error(f"expected models among {', '.join(CATALOGUE)}, got {', '.join(unknown)}")
    train(options.models or list(CATALOGUE), options.seeds, options.rows)
    made = table(read(options.rows))
    write(options.doc, made, BEGIN, END)
    print(made)


if __name__ == "__main__":
    main()
