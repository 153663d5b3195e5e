"""The op bench into bench/results/ops.jsonl, and from there the speed table of the README.

python bench/run.py [OP ...] [--seconds S] [--dtype D]    # measure, then write the table
python bench/run.py --table                               # the table alone, from the kept rows

Rows of an op in a dtype that were measured anew take the place of those of its last run; all forms
of an op are always of one run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recops.cli import main as recops

ROOT = Path(__file__).resolve().parent
ROWS = ROOT / "results" / "ops.jsonl"
README = ROOT.parent / "README.md"
BEGIN, END = "<!-- speed -->", "<!-- /speed -->"
MODE = "forward+backward"


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, none if there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def best(rows: Sequence[dict[str, Any]], *providers: str) -> dict[str, Any] | None:
    """The fastest row of the providers of these names or beginnings, if one was timed."""
    timed = [r for r in rows if r["median_ms"] and r["provider"].startswith(providers)]
    return min(timed, key=lambda row: row["median_ms"], default=None)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A line a case: ours, the best stock form, the speed-ups over it and others, the floor."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["mode"] == MODE:
            groups.setdefault((row["op"], row["case"], row["dtype"]), []).append(row)
    lines = [
        "| op | case | recops ms | best stock ms | speed-up | over xla | over gathers "
        "| times the floor |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (op, case, dtype), group in groups.items():
        ours, theirs = best(group, "cpp", "xla"), best(group, "stock.")
        if ours is None or theirs is None:
            continue

        def over(provider: str, ours: dict[str, Any] = ours, group: Any = group) -> str:
            other = best(group, provider)
            return f"{other['median_ms'] / ours['median_ms']:.1f}x" if other else ""

        form = f"{theirs['provider'].removeprefix('stock.')}, {theirs['compiled']}"
        name = case if dtype == "float32" else f"{case}, {dtype}"
        lines.append(
            f"| `{op}` | {name} | {ours['median_ms']:.1f} ({ours['provider']}, {ours['compiled']}) "
            f"| {theirs['median_ms']:.1f} ({form}) "
            f"| {theirs['median_ms'] / ours['median_ms']:.2f}x "
            f"| {over('xla') if ours['provider'] == 'cpp' else ''} | {over('stock.gathers')} "
            f"| {ours['floor_ratio']:.1f} |"
        )
    kept = rows[0]
    lines += [
        "",
        f"{kept['device']}, {kept['threads']} threads, TensorFlow {kept['tf']}, Keras "
        f"{kept['keras']}. Each side in the faster of graph and jit; over xla: our fused XLA path; "
        f"over gathers: the form of two gathers over the pairs. The floor is the machine's matmul "
        f"or copy rate.",
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure unless told otherwise, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ops", nargs="*")
    parser.add_argument("--seconds", default="2")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--table", action="store_true", help="only write the table")
    options = parser.parse_args()
    code = 0
    rows = read(ROWS)
    if not options.table:
        with tempfile.TemporaryDirectory() as folder:
            fresh = Path(folder) / "rows.jsonl"
            code = recops(
                ["bench", *options.ops, "--seconds", options.seconds, "--dtype", options.dtype]
                + ["--out", str(fresh)]
            )
            found = read(fresh)
        measured = {(row["op"], row["dtype"]) for row in found}
        rows = [row for row in rows if (row["op"], row["dtype"]) not in measured] + found
        rows.sort(key=lambda row: row["op"])
        ROWS.write_text("".join(json.dumps(row) + "\n" for row in rows))
    before, rest = README.read_text().split(BEGIN)
    README.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{rest.split(END)[1]}")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
