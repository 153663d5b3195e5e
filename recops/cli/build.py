"""`recops build`: build the native library."""

from __future__ import annotations

import argparse

from recops.cli.messages import OK
from recops.cli.parser import Commands, command


def add(commands: Commands) -> None:
    built = command(commands, "build", run, "Build the native library, unless it is there.")
    built.add_argument("--force", action="store_true", help="build even if it is there")


def run(arguments: argparse.Namespace) -> int:
    from recops._core import build

    print(build.find_or_build(rebuild=arguments.force).describe())
    return OK
