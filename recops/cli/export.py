"""`recops export`: a saved Keras model as a program that runs where recops is not."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from recops.cli.messages import OK
from recops.cli.parser import Commands, command


def add(commands: Commands) -> None:
    exported = command(
        commands, "export", run, "Write a model as a program that runs where recops is not."
    )
    exported.add_argument(
        "model", type=Path, metavar="IN.keras", help="a Keras model, or what `recops train` wrote"
    )
    exported.add_argument(
        "out", type=Path, metavar="OUT", help="folder of the SavedModel, or ONNX file; must be new"
    )
    exported.add_argument(
        "--format",
        choices=("saved_model", "onnx"),
        default="saved_model",
        help="default: %(default)s",
    )
    exported.add_argument(
        "--no-validate",
        dest="validate",
        action="store_false",
        help="do not compare it with the model in a fresh process",
    )
    exported.add_argument("--json", action="store_true", help="print the report as JSON")


def run(arguments: argparse.Namespace) -> int:
    from recops import export
    from recops.cli.saved_models import load

    report = export(
        load(arguments.model, "export"),
        arguments.out,
        format=arguments.format,
        validate=arguments.validate,
    )
    print(json.dumps(report.to_dict()) if arguments.json else report)
    return OK
