"""`recops bench`: check and time the ops."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from recops._core.whole import writing
from recops.cli.messages import OK, WRONG
from recops.cli.parser import Commands, command, path, positive


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
    bench.add_argument("--out", type=path, metavar="FILE.jsonl", help="one JSON row a line")
    bench.add_argument(
        "--compare",
        type=path,
        metavar="FILE.jsonl",
        help="rows of an earlier --out: what fell behind its stock forms since is named, and is 1",
    )


def run(arguments: argparse.Namespace) -> int:
    from recops.profiling import comparison, op_bench

    kept = [] if arguments.compare is None else _rows(arguments.compare)
    cases = op_bench.cases(arguments.cases, arguments.ops)
    rows = []
    with _whole_file(arguments.out) as write:
        for number, case in enumerate(cases, start=1):
            print(f"[{number}/{len(cases)}] {case.op} {case.name}", file=sys.stderr, flush=True)
            for row in op_bench.run(case, arguments.dtype, arguments.seconds):
                rows.append(row)
                write(json.dumps(row.to_dict()) + "\n")
    print(op_bench.summary(rows))

    def again(op: str, name: str) -> list[dict[str, Any]]:
        (case,) = (c for c in cases if (c.op, c.name) == (op, name))
        print(f"again: {op} {name}", file=sys.stderr, flush=True)
        found = op_bench.run(case, arguments.dtype, arguments.seconds)
        return [row.to_dict() for row in found]

    slower = comparison.slower([row.to_dict() for row in rows], kept, again)
    for line in slower:
        print(line)
    return OK if not slower and all(row.status == "ok" for row in rows) else WRONG


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that `--out` wrote."""
    from recops.profiling import comparison

    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        comparison.speed_ups(rows)
    except OSError as error:
        raise OSError(f"bench: --compare {path} cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"bench: --compare {path} is not a file of `recops bench --out`") from None
    return rows


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
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(
            f"bench: --out {path} cannot be written ({error.strerror}); choose another file"
        ) from None
    with writing(path, shared=True) as temporary, temporary.open("w", encoding="utf-8") as file:
        yield file.write
