"""`recops info`: versions, devices, and what each op runs on."""

from __future__ import annotations

import argparse
import json

from recops.cli.messages import OK
from recops.cli.parser import Commands, command


def add(commands: Commands) -> None:
    information = command(commands, "info", run, "Versions, devices, and each op's backends.")
    information.add_argument("--json", action="store_true")


def run(arguments: argparse.Namespace) -> int:
    from recops import info

    found = info()
    print(json.dumps(found.to_dict(), indent=2) if arguments.json else found)
    return OK
