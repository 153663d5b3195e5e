"""The command `recops`: each subcommand parses, calls and prints."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence

from recops.cli import (
    accelerate,
    bench,
    build,
    encode,
    explain,
    export,
    info,
    models,
    profile,
    query,
    train,
)
from recops.cli.messages import INTERRUPTED, OK, USER_ERROR, complain, said, user_errors
from recops.cli.parser import DEBUG, Parser
from recops.version import __version__

# In the order of the help.
_COMMANDS = (train, models, encode, explain, query, profile, accelerate, export, bench, info, build)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code: 0, 1 (a bench row is wrong), 2 (user error), 75, 130."""
    arguments = _parser().parse_args(argv)
    try:
        _find_devices_quietly()
        return arguments.run(arguments)
    except KeyboardInterrupt:
        return complain(arguments.interrupted(arguments), INTERRUPTED)
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        if not isinstance(error, user_errors()):
            raise
        if arguments.debug:
            traceback.print_exc()
        return complain(said(error), getattr(error, "exit_code", USER_ERROR))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="recops", description="Recommender models on fast, exact ops.")
    parser.add_argument("--version", action="version", version=f"recops {__version__}")
    parser.add_argument("--debug", action="store_true", help=DEBUG)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for each in _COMMANDS:
        each.add(commands)
    return parser


def _find_devices_quietly() -> None:
    """Import what waited, and have TensorFlow look for devices, without its log on stderr.

    On a machine without a GPU the search ends in an error message that is none, whatever the log
    level; it is shown only when the search fails.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    from recops import _load

    _load()
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            tf.config.list_physical_devices()
        except Exception:
            log.seek(0)
            os.write(kept, log.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
