"""What the parsers of the commands share."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from recops.cli.messages import USER_ERROR, complain

DEBUG = "show the traceback of an error"
# What `add_subparsers` returns, whose class is private.
Commands = Any


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; `--help` shows the usage."""

    def error(self, message: str) -> NoReturn:
        raise SystemExit(complain(f"{self.prog}: {message}; see {self.prog} --help", USER_ERROR))


def command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    """A new command, which `run` runs."""
    made = commands.add_parser(name, help=text, description=text)
    # Without a default: it would take back what stands before the command.
    made.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=DEBUG)
    made.set_defaults(run=run, interrupted=lambda _: "stopped; nothing was written")
    return made


def _number(convert: Callable[[str], Any], fits: Callable[[Any], bool], expected: str) -> Any:
    def parse(text: str) -> Any:
        with contextlib.suppress(ValueError):
            if fits(value := convert(text)):
                return value
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")

    return parse


def path(text: str) -> Path:
    """A file or folder; `--out=~/run` reaches us as it stands, since no shell expands that."""
    return Path(text).expanduser()


count = _number(int, lambda n: n >= 1, "a whole number of 1 or more")
natural = _number(int, lambda n: n >= 0, "a whole number of 0 or more")
positive = _number(float, lambda x: 0 < x < float("inf"), "a number above 0")
