"""`recops build`: build the native library."""

from __future__ import annotations

import argparse
import json

from recops.cli.messages import OK
from recops.cli.parser import Commands, command


def add(commands: Commands) -> None:
    built = command(commands, "build", run, "Build the native library, unless it is there.")
    built.add_argument(
        "--isa",
        help="instruction set: native, x86-64-v3, x86-64-v4, or what else the compiler names; "
        "default: RECOPS_ISA, else native",
    )
    built.add_argument("--force", action="store_true", help="build even if it is there")


def run(arguments: argparse.Namespace) -> int:
    from recops._core import build

    built = build.find_or_build(isa=arguments.isa, rebuild=arguments.force)
    print(built.describe())
    print(json.dumps(built.manifest.to_dict(), indent=2))
    return OK
