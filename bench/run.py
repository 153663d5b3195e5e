"""The op bench into bench/results/ops.jsonl; from there the README's speed table and chart.

python bench/run.py [OP ...] [--seconds S] [--dtype D]    # measure, write table and chart
python bench/run.py --table                               # these alone, from the kept rows

Rows of an op in a dtype that were measured anew take the place of those of its last run; all forms
of an op are always of one run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from recops.cli import main as recops

ROOT = Path(__file__).resolve().parent
ROWS = ROOT / "results" / "ops.jsonl"
README = ROOT.parent / "README.md"
BEGIN, END = "<!-- speed -->", "<!-- /speed -->"
CHART = ROOT.parent / "docs" / "speed.svg"
MODE = "forward+backward"

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """The rows of a file, none if there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def best(rows: Sequence[Row], *providers: str) -> Row | None:
    """The fastest row of the providers of these names or beginnings, if one was timed."""
    timed = [r for r in rows if r["median_ms"] and r["provider"].startswith(providers)]
    return min(timed, key=lambda row: row["median_ms"], default=None)


@dataclasses.dataclass(frozen=True)
class Compared:
    """A case's rows, the fastest of ours and the fastest stock form."""

    op: str
    case: str
    rows: Sequence[Row]
    ours: Row
    stock: Row

    @property
    def speed_up(self) -> float:
        """How many times as long the fastest stock form takes."""
        return self.stock["median_ms"] / self.ours["median_ms"]

    def over(self, provider: str) -> str:
        """The speed-up over the rows of this name or beginning, "" where there are none."""
        other = best(self.rows, provider)
        return f"{other['median_ms'] / self.ours['median_ms']:.1f}x" if other else ""


def compared(rows: Sequence[Row]) -> list[Compared]:
    """Every case of which ours and a stock form were timed, in the order of the rows."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    # An optimizer's step has no way back.
    both_ways = {row["op"] for row in rows if row["mode"] == MODE}
    for row in rows:
        if row["mode"] == MODE or row["op"] not in both_ways:
            groups.setdefault((row["op"], row["case"], row["dtype"]), []).append(row)
    cases = []
    for (op, case, dtype), group in groups.items():
        ours, stock = best(group, "cpp", "xla"), best(group, "stock.")
        if ours and stock:
            name = case if dtype == "float32" else f"{case}, {dtype}"
            cases.append(Compared(op, name, group, ours, stock))
    return cases


def table(rows: Sequence[Row]) -> str:
    """A line a case: ours, the best stock form, the speed-ups over it and others, the floor."""
    lines = [
        "| op | case | recops ms | best stock ms | speed-up | over xla | over gathers "
        "| times the floor |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in compared(rows):
        ours, stock = case.ours, case.stock
        form = f"{stock['provider'].removeprefix('stock.')}, {stock['compiled']}"
        lines.append(
            f"| `{case.op}` | {case.case} "
            f"| {ours['median_ms']:.1f} ({ours['provider']}, {ours['compiled']}) "
            f"| {stock['median_ms']:.1f} ({form}) | {case.speed_up:.2f}x "
            f"| {case.over('xla') if ours['provider'] == 'cpp' else ''} "
            f"| {case.over('stock.gathers')} | {ours['floor_ratio']:.1f} |"
        )
    lines += [
        "",
        f"{_where(rows)} Each side in the faster of graph and jit; over xla: our fused XLA path; "
        f"over gathers: the form of two gathers over the pairs. The floor is the machine's matmul "
        f"or copy rate. `row_update` is one step, which has no way back.",
    ]
    return "\n".join(lines)


def _where(rows: Sequence[Row]) -> str:
    """On what the rows were timed: the ops of one run are those of one machine."""
    machines: dict[str, dict[str, None]] = {}
    for row in rows:
        said = f"{row['device']}, {row['threads']} threads, TensorFlow {row['tf']}, Keras "
        machines.setdefault(said + row["keras"], {})[f"`{row['op']}`"] = None
    first, *others = machines.items()
    return f"{first[0]}." + "".join(f" {', '.join(ops)}: {where}." for where, ops in others)


def chart(rows: Sequence[Row]) -> Figure:
    """A bar a case, the largest speed-up over the best stock form on top."""
    cases = sorted(compared(rows), key=lambda case: case.speed_up)
    figure = Figure(figsize=(9, 1 + 0.23 * len(cases)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(
        [f"{case.op}  {case.case}" for case in cases],
        [case.speed_up for case in cases],
        color="#0b6e8a",
        height=0.72,
    )
    axes.bar_label(bars, [f"{case.speed_up:.1f}x" for case in cases], padding=3, fontsize=8)
    axes.axvline(1, color="#d9822b", linewidth=1)
    axes.set_xlabel("times as fast as the best stock form, forward and backward")
    axes.margins(y=0.01)
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def main() -> int:
    """Measure unless told otherwise, then write table and chart."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ops", nargs="*")
    parser.add_argument("--seconds", default="2")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--table", action="store_true", help="only write table and chart")
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
    # The same rows give the same file.
    with rc_context({"svg.hashsalt": "recops", "svg.fonttype": "none"}):
        chart(rows).savefig(CHART, metadata={"Date": None})
    return code


if __name__ == "__main__":
    raise SystemExit(main())
