"""`recops models`: what can be trained."""

from __future__ import annotations

import argparse

from recops.cli.messages import OK
from recops.cli.parser import Commands, command


def add(commands: Commands) -> None:
    command(commands, "models", run, "List the models that can be trained.")


def run(_: argparse.Namespace) -> int:
    from recops.models import CATALOGUE, ESTIMATORS
    from recops.training import DATA, READERS

    rows = [
        ("model", "paper", "data it needs"),
        *((e.name, e.paper, e.needs) for e in (*CATALOGUE.values(), *ESTIMATORS.values())),
    ]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths)).rstrip())
    print(
        f"\nEach trains on {', '.join(DATA)}: recops train MODEL. Files of your own:\n"
        f"recops train MODEL --data READER:PATH, where READER is one of {', '.join(READERS)}"
    )
    return OK
