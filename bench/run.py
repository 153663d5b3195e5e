"""The op bench into bench/results/ops.jsonl, and from there the speed table of the README.

python bench/run.py [OP ...] [--seconds S]     # measure, then write the table
python bench/run.py --table                    # the table alone, from the rows that are kept

Rows of an op that was measured anew take the place of those of its last run; all forms of an op are
always of one run.
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


def best(rows: Sequence[dict[str, Any]], stock: bool) -> dict[str, Any]:
    """The fastest row of a case among the stock forms, or among the fast backends."""
    return min(
        (
            row
            for row in rows
            if row["median_ms"]
            and row["provider"].startswith("stock.") == stock
            and row["provider"] != "reference"
        ),
        key=lambda row: row["median_ms"],
    )


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A line a case: ours, the best stock form, the speed-ups over it and gathers, the floor."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["mode"] == MODE and row["dtype"] == "float32":
            groups.setdefault((row["op"], row["case"]), []).append(row)
    lines = [
        "| op | case | recops ms | best stock ms | speed-up | over gathers | times the floor |",
        "|---|---|---|---|---|---|---|",
    ]
    for (op, case), group in groups.items():
        ours, theirs = best(group, stock=False), best(group, stock=True)
        gathers = [
            r["median_ms"] for r in group if r["provider"] == "stock.gathers" and r["median_ms"]
        ]
        over = f"{min(gathers) / ours['median_ms']:.1f}x" if gathers else ""
        form = f"{theirs['provider'].removeprefix('stock.')}, {theirs['compiled']}"
        lines.append(
            f"| `{op}` | {case} | {ours['median_ms']:.1f} ({ours['provider']}, {ours['compiled']}) "
            f"| {theirs['median_ms']:.1f} ({form}) "
            f"| {theirs['median_ms'] / ours['median_ms']:.2f}x | {over} "
            f"| {ours['floor_ratio']:.1f} |"
        )
    kept = rows[0]
    lines += [
        "",
        f"{kept['device']}, {kept['threads']} threads, TensorFlow {kept['tf']}, Keras "
        f"{kept['keras']}. Both sides in the faster of graph and jit. Over gathers: the form of "
        f"two gathers over the pairs, likewise. The floor is the machine's matmul or copy rate.",
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure unless told otherwise, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ops", nargs="*")
    parser.add_argument("--seconds", default="2")
    parser.add_argument("--table", action="store_true", help="only write the table")
    options = parser.parse_args()
    code = 0
    rows = read(ROWS)
    if not options.table:
        with tempfile.TemporaryDirectory() as folder:
            fresh = Path(folder) / "rows.jsonl"
            code = recops(
                ["bench", *options.ops, "--seconds", options.seconds, "--out", str(fresh)]
            )
            found = read(fresh)
        measured = {row["op"] for row in found}
        rows = [row for row in rows if row["op"] not in measured] + found
        rows.sort(key=lambda row: row["op"])
        ROWS.write_text("".join(json.dumps(row) + "\n" for row in rows))
    before, rest = README.read_text().split(BEGIN)
    README.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{rest.split(END)[1]}")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
