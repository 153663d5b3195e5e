"""`recops accelerate`: a saved Keras model with its known layers replaced by faster ones."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from recops._core.whole import writing
from recops.cli.messages import OK
from recops.cli.parser import Commands, command


def add(commands: Commands) -> None:
    made = command(
        commands, "accelerate", run, "Replace the layers of a saved Keras model by faster ones."
    )
    made.add_argument(
        "source", type=Path, metavar="IN.keras", help="a Keras model, or what `recops train` wrote"
    )
    made.add_argument("target", type=Path, metavar="OUT.keras", help="where the copy goes")
    made.add_argument(
        "--batch", type=Path, metavar="FILE.npz", help="inputs by name; default: drawn"
    )
    made.add_argument("--only", action="append", metavar="LAYER", help="a name or class; repeat")
    made.add_argument(
        "--keep", action="append", default=[], metavar="LAYER", help="a name or class; repeat"
    )
    made.add_argument(
        "--optimizer",
        choices=("lazy", "keep"),
        default="lazy",
        help="lazy: row-sparse Adam, Adagrad and Ftrl for tables; default: %(default)s",
    )
    made.add_argument("--no-measure", action="store_true", help="swap without timing")
    made.add_argument("--json", type=Path, metavar="F", help="write the report as JSON")
    made.add_argument("--html", type=Path, metavar="F", help="write the report as a page with bars")


def run(arguments: argparse.Namespace) -> int:
    if arguments.target.suffix != ".keras":
        raise ValueError(f"accelerate: OUT must end in .keras, got {arguments.target}")
    _check_writable(arguments.target)
    from recops import accelerate
    from recops.cli.saved_models import load

    model = load(arguments.source, "accelerate", compiled=True)
    batch = None if arguments.batch is None else _batch(arguments.batch)
    fast, report = accelerate(
        model,
        batch=batch,
        measure=not arguments.no_measure,
        only=arguments.only,
        keep=arguments.keep,
        optimizer=arguments.optimizer,
    )
    with writing(arguments.target) as file:
        fast.save(file)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report.to_dict(), indent=2), encoding="utf-8")
    if arguments.html is not None:
        arguments.html.write_text(report.to_html(), encoding="utf-8")
    print(report)
    print(f"{len(report.swapped)} swapped; written to {arguments.target}")
    return OK


def _check_writable(target: Path) -> None:
    """Before minutes of work: whether the result can be put where it is to go."""
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".recops-"):
            pass
    except OSError as error:
        raise OSError(f"accelerate: {target} cannot be written: {error.strerror}") from error
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(f"accelerate: {target} is read-only; choose another OUT")


def _batch(path: Path) -> Any:
    import numpy as np

    try:
        with np.load(path) as stored:
            return {name: stored[name] for name in stored.files}
    except (ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise ValueError(
            f"accelerate: --batch {path} is no .npz file of one array an input: {error}"
        ) from error
