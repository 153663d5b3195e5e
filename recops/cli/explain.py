"""`recops explain`: draw what a trained model looked at."""

from __future__ import annotations

import argparse

from recops.cli.messages import OK
from recops.cli.parser import Commands, command, natural, path


def add(commands: Commands) -> None:
    explained = command(commands, "explain", run, "Draw what a trained model looked at.")
    explained.add_argument(
        "model", type=path, metavar="DIR|MODEL.keras", help="what `recops train` wrote"
    )
    explained.add_argument("--data", default="movielens-100k", help="default: %(default)s")
    explained.add_argument(
        "--row", type=natural, metavar="N", help="of the test split; default: the mean of all"
    )
    explained.add_argument("--out", type=path, required=True, metavar="FOLDER", help="of the PNGs")


def run(arguments: argparse.Namespace) -> int:
    from recops import explain
    from recops._core.compat import keras
    from recops.models import CATALOGUE
    from recops.training import dataset

    path = arguments.model / "model.keras" if arguments.model.is_dir() else arguments.model
    if not path.is_file():
        raise FileNotFoundError(f"explain: there is no model at {path}; train one with --out DIR")
    model = keras.models.load_model(path, compile=False)
    # The sequence task has the features of the ranking task as well.
    task = CATALOGUE[model.name].task if model.name in CATALOGUE else "sequence"
    part = dataset(arguments.data, task).test
    rows = slice(None)
    if arguments.row is not None:
        if arguments.row >= len(part):
            raise ValueError(
                f"explain: --row must be below {len(part)}, the rows of the test split, got "
                f"{arguments.row}"
            )
        rows = slice(arguments.row, arguments.row + 1)
    found = explain(model, {name: values[rows] for name, values in part.inputs.items()})
    row = None if arguments.row is None else 0
    written = found.plot(arguments.out, row)
    if row is not None:
        said = ", ".join(f"{value:.4f}" for value in found.predictions[row].ravel())
        print(f"row {arguments.row}: predicted {said}, label {part.labels[arguments.row, 0]:g}")
    for name, file in zip(found.parts, written):
        print(f"{name} ({found.parts[name].layer}): {file}")
    return OK
