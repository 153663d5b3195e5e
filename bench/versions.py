"""The README's table of the TensorFlows and Kerases that the tests were run on.

    python bench/versions.py

Of the rows that pytest keeps in the file that RECOPS_TESTED names, see `make versions`; of each
TensorFlow, Keras and part of the tests the last one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from steps_by_rows import put, read

ROOT = Path(__file__).resolve().parent
ROWS = ROOT / "results" / "versions.jsonl"
README = ROOT.parent / "README.md"
BEGIN, END = "<!-- versions -->", "<!-- /versions -->"

COUNTS = ("passed", "failed", "skipped")

Row = dict[str, Any]


def table(rows: list[Row]) -> str:
    """A line a run, the newest TensorFlow first."""
    last = {(row["tf"], row["keras"], row["tests"]): row for row in rows}
    lines = [
        "| TensorFlow | Keras | Python | tests | passed | failed | skipped | minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(last.values(), key=lambda row: (_number(row["tf"]), row["keras"]))[::-1]:
        cells = [row[name] for name in ("tf", "keras", "python", "tests", *COUNTS)]
        lines.append(f"| {' | '.join(map(str, cells))} | {row['seconds'] / 60:.1f} |")
    return "\n".join(lines)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


if __name__ == "__main__":
    put(README, BEGIN, END, table(read(ROWS)))
