"""`recops bench`: check and time the ops."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from recops.cli.messages import OK, WRONG
from recops.cli.parser import Commands, command, positive


def add(commands: Commands) -> None:
    bench = command(
        commands, "bench", run, "Check and time every backend of the ops, and stock forms."
    )
    bench.add_argument("ops", nargs="*", metavar="OP", help="default: all")
    bench.add_argument("--cases", choices=("smoke", "test", "bench"), default="bench")
    bench.add_argument(
        "--dtype", choices=("float16", "bfloat16", "float32", "float64"), default="float32"
    )
    bench.add_argument("--seconds", type=positive, default=3.0, help="a case and mode (3)")
    bench.add_argument("--out", type=Path, metavar="FILE.jsonl", help="one JSON row a line")


def run(arguments: argparse.Namespace) -> int:
    from recops.profiling import op_bench

    cases = op_bench.cases(arguments.cases, arguments.ops)
    rows = []
    with _whole_file(arguments.out) as write:
        for number, case in enumerate(cases, start=1):
            print(f"[{number}/{len(cases)}] {case.op} {case.name}", file=sys.stderr, flush=True)
            for row in op_bench.run(case, arguments.dtype, arguments.seconds):
                rows.append(row)
                write(json.dumps(row.to_dict()) + "\n")
    print(op_bench.summary(rows))
    return OK if all(row.status == "ok" for row in rows) else WRONG


@contextlib.contextmanager
def _whole_file(path: Path | None) -> Iterator[Callable[[str], object]]:
    """A writer of a file that appears when all is written; it finds out first whether it can be."""
    if path is None:
        yield lambda text: None
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(21, "is a folder")
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise OSError(
            f"bench: --out {path} cannot be written ({error.strerror}); choose another file"
        ) from None
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            yield file.write
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
