"""Accuracy of models, model x seed, into docs/accuracy.md and the README.

    python bench/accuracy.py [MODEL ...] [--data NAME|READER:PATH] [--seeds 0 1 2] [--peers]
    python bench/accuracy.py MODEL ... --optimizer NAME
    python bench/accuracy.py [MODEL ...] --time
    python bench/accuracy.py --readme

Each finished training is a line of --rows; what stands there already is not trained again, so that
a run which was stopped goes on where it was. The tables are made from all lines: MovieLens 100K's
in the document, that of any other data on the terminal. --peers also trains the models of the other
libraries that are installed (`make peers`), on the same splits; their lines become columns.
--optimizer trains with another optimizer than the settings', all else alike; its lines stand beside
theirs in a table of their own.
--time trains three epochs of each model that has lines, on a machine that does nothing else, and
notes the seconds of an epoch in these. --readme trains nothing and writes the README's table of all
models.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import accuracy_baseline
import accuracy_peers
from accuracy_tables import MOVIELENS, groups, optimizers, readme, table

from recops.models import CATALOGUE, ESTIMATORS, Entry
from recops.training import TRAINING, dataset, train_named
from recops.version import __version__

BEGIN, END = "<!-- table -->", "<!-- /table -->"
OPTIMIZERS_BEGIN, OPTIMIZERS_END = "<!-- optimizers -->", "<!-- /optimizers -->"
README_BEGIN, README_END = "<!-- models -->", "<!-- /models -->"
ROOT = Path(__file__).resolve().parent
MODELS: dict[str, Entry] = {**CATALOGUE, **ESTIMATORS}


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


def done(
    path: Path, data: str = MOVIELENS, optimizer: str | None = None
) -> set[tuple[str | None, str, int | None]]:
    """Peer (None is recops), model and seed of each line on a data set, by the named optimizer."""
    return {
        (row.get("peer"), row["model"], row["seed"])
        for row in read(path)
        if (row.get("data", MOVIELENS), row.get("optimizer")) == (data, optimizer)
    }


def train(
    names: Sequence[str],
    seeds: Sequence[int],
    path: Path,
    data: str = MOVIELENS,
    optimizer: str | None = None,
) -> None:
    """Train what is missing, and the baselines of each task; `optimizer` None is each model's."""
    tasks = {name: MODELS[name].task for name in names}
    baseline = "logistic regression"
    if {"ranking", "sequence"} & set(tasks.values()) and (None, baseline, None) not in done(
        path, data
    ):
        found = accuracy_baseline.fit(dataset(data, "ranking"))
        row = {"model": baseline, "data": data, "task": "ranking", "seed": None}
        append(path, {**row, "test": found["test"]})
    if "sequence" in tasks.values() and data == MOVIELENS and optimizer is None:
        tasks[accuracy_baseline.WITHOUT_HISTORY] = "ranking"
    for name, task in tasks.items():
        for seed in seeds:
            # Another run may have added it meanwhile.
            other = (
                None if name in TRAINING and TRAINING[name].optimizer == optimizer else optimizer
            )
            if (None, name, seed) in done(path, data, other):
                continue
            if name in MODELS:
                result = train_named(name, data, seed=seed, optimizer=other, verbose=0)
            else:
                result = accuracy_baseline.train_without_history(seed)
            row = {
                "model": name,
                "data": data,
                "task": task,
                "seed": seed,
                **({"optimizer": other} if other else {}),
                "test": result.test,
                **({"baseline": result.baseline} if result.baseline else {}),
                f"validation_{result.criterion}": result.validation,
                "best_epoch": result.best_epoch,
                "epochs": len(result.epochs),
                "seconds_per_epoch": statistics.median(e["seconds"] for e in result.epochs),
                # Trees have no weights to count.
                **({} if name in ESTIMATORS else {"parameters": result.model.count_params()}),
                "recops": __version__,
            }
            append(path, row)
            print(json.dumps(row), flush=True)


def compare(names: Sequence[str], seeds: Sequence[int], path: Path, data: str = MOVIELENS) -> None:
    """Train the models of each peer that is installed, as far as they are missing."""
    for peer in accuracy_peers.installed():
        for name in (name for name in names if name in peer.models):
            for seed in seeds:
                if (peer.name, name, seed) in done(path, data):
                    continue
                row = {
                    "peer": peer.name,
                    "model": name,
                    "data": data,
                    "task": MODELS[name].task,
                    "seed": seed,
                    **accuracy_peers.train(peer, name, data, seed),
                }
                append(path, row)
                print(json.dumps(row), flush=True)


def time_epochs(names: Sequence[str], path: Path, data: str = MOVIELENS) -> None:
    """Seconds of an epoch, the first left out, and parameters: into the lines of each model."""
    for name in names:
        if name in ESTIMATORS:  # which are not trained in epochs
            continue
        result = train_named(name, data, epochs=3, seed=0, verbose=0)
        found = {
            "seconds_per_epoch": statistics.median(e["seconds"] for e in result.epochs[1:]),
            "parameters": result.model.count_params(),
        }
        rows = [
            row | found
            if (row["model"], row.get("data", MOVIELENS)) == (name, data)
            and not (row.get("peer") or row.get("optimizer"))
            else row
            for row in read(path)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        print(name, json.dumps(found), flush=True)


def trainable(data: str) -> list[str]:
    """The models whose task a data set has."""
    has: dict[str, bool] = {}
    for task in {entry.task for entry in MODELS.values()}:
        try:
            dataset(data, task)
            has[task] = True
        except ValueError as error:
            # The reader names the tasks that it has.
            if "has no task" not in str(error):
                raise
            has[task] = False
    return [name for name, entry in MODELS.items() if has[entry.task]]


def write(doc: Path, made: str, begin: str, end: str) -> None:
    """Put a table into a document, between two markers."""
    before, rest = doc.read_text().split(begin)
    doc.write_text(f"{before}{begin}\n{made}\n{end}{rest.split(end)[1]}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="names of models; by default all that fit")
    parser.add_argument("--data", default=MOVIELENS, help="as of `recops train` (%(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", type=Path, default=ROOT / "results" / "accuracy.jsonl")
    parser.add_argument("--doc", type=Path, default=ROOT.parent / "docs" / "accuracy.md")
    parser.add_argument("--json", type=Path, help="write means and deviations to this file")
    parser.add_argument("--optimizer", help="as of `recops train`; by default each model's own")
    parser.add_argument("--peers", action="store_true", help="train installed peers as well")
    parser.add_argument("--time", action="store_true", help="note the seconds of an epoch alone")
    parser.add_argument(
        "--readme",
        type=Path,
        nargs="?",
        const=ROOT.parent / "README.md",
        help="train nothing; write the table of all models",
    )
    options = parser.parse_args(arguments)
    if options.readme is not None:
        write(options.readme, readme(read(options.rows)), README_BEGIN, README_END)
        return
    unknown = [name for name in options.models if name not in MODELS]
    if unknown:
        parser.error(f"expected models among {', '.join(MODELS)}, got {', '.join(unknown)}")
    names = options.models or trainable(options.data)
    if options.time:
        time_epochs(names, options.rows, options.data)
        return
    if options.optimizer and not set(names) <= set(TRAINING):
        parser.error(f"--optimizer takes models among {', '.join(TRAINING)}")
    train(names, options.seeds, options.rows, options.data, options.optimizer)
    if options.peers:
        if not accuracy_peers.installed():
            print("no peer is installed; `make peers` installs them", file=sys.stderr)
        compare(names, options.seeds, options.rows, options.data)
    rows = read(options.rows)
    made = table(rows, options.data)
    if options.data == MOVIELENS:
        write(options.doc, made, BEGIN, END)
        if beside := optimizers(rows):
            write(options.doc, beside, OPTIMIZERS_BEGIN, OPTIMIZERS_END)
    if options.json is not None:
        options.json.write_text(json.dumps(groups(rows, options.data), indent=2) + "\n")
    print(made)
    if options.optimizer:
        print(f"\n{optimizers(rows, options.data)}")


if __name__ == "__main__":
    main()
