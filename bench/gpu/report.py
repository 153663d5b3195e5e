"""The table of docs/gpu.md, from the rows of `compile.py` (and of `run.py`, where there are any).

python bench/gpu/report.py
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COMPILED = ROOT / "bench" / "results" / "gpu_compiled.jsonl"
RUN = ROOT / "bench" / "results" / "gpu_run.jsonl"
DOC = ROOT / "docs" / "gpu.md"
BEGIN, END = "<!-- compiled -->", "<!-- /compiled -->"


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines, none if there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def loops(row: dict[str, Any]) -> str:
    """Launches a step of each loop, with its steps: "50 x 6, 50 x 8"."""
    return ", ".join(
        f"{'?' if loop['steps'] is None else loop['steps']} x "
        f"{loop['kernels'] + loop['copies'] + loop['library_calls']}"
        for loop in row["loops"]
    )


def line(row: dict[str, Any], times: dict[str, dict[str, Any]]) -> str:
    """A row of the table; `times` are the rows of `run.py` by name."""
    start = f"| `{row['op']}` | {row['case']} | {row['dtype']} | {row['provider']} "
    if row["status"] != "compiled":
        return start + f"| {row['status']} | | | | |"
    calls = ", ".join(dict.fromkeys(row["custom_calls"]))
    ran = times.get(row["name"])
    return start + (
        f"| {row['kernels'] + row['copies'] + row['library_calls']} | {loops(row)} "
        f"| {row['temporary_bytes'] / 2**20:.1f} | {calls} "
        f"| {'' if ran is None else ran.get('median_ms') or ran['status']} |"
    )


def table(rows: Sequence[dict[str, Any]], ran: Sequence[dict[str, Any]]) -> str:
    """One line a program, those of a case together."""
    times = {row["name"]: row for row in ran}
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["op"], row["case"], row["dtype"]), []).append(row)
    lines = [
        "| op | case | dtype | form | launches | steps x launches a step | temporary MiB "
        "| library calls | ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for _, group in sorted(groups.items()):
        # Ours first, then the stock forms.
        lines += [line(r, times) for r in sorted(group, key=lambda r: r["provider"] != "xla")]
    made = next(row for row in rows if row["status"] == "compiled")
    lines += [
        "",
        f"{len(rows)} programs, forward and backward of one call each, lowered by TensorFlow "
        f"{made['tf']} and compiled by JAX {made['jax']}'s XLA for {made['target']}. "
        + (f"Run on {ran[0]['device']}." if ran else "None was run."),
    ]
    return "\n".join(lines)


def verdict(rows: Sequence[dict[str, Any]]) -> str:
    """How often recops needs fewer launches and less memory than each stock form of a case."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["status"] == "compiled":
            groups.setdefault((row["op"], row["case"], row["dtype"]), []).append(row)
    lines = []
    for dtype in ("float32", "bfloat16"):
        for what, size in (("launches", _launches), ("temporary memory", _memory)):
            more = []
            cases = 0
            for (op, case, kind), group in sorted(groups.items()):
                stock = [row for row in group if row["provider"].startswith("stock.")]
                if kind != dtype or not stock:
                    continue
                cases += 1
                ours = next(row for row in group if row["provider"] == "xla")
                best = min(stock, key=size)
                if size(ours) > size(best):
                    more.append(f"`{op}` {case} ({best['provider'].removeprefix('stock.')})")
            if cases:
                lines.append(
                    f"- {dtype}, {what}: at most the best stock form's in {cases - len(more)} of "
                    f"{cases} cases" + (f"; more in {', '.join(more)}." if more else ".")
                )
    return "\n".join(lines)


def _launches(row: dict[str, Any]) -> int:
    """Launches of one call. A loop of unknown length counts as the longest of the program's."""
    known = max((loop["steps"] or 0 for loop in row["loops"]), default=0)
    total = row["kernels"] + row["copies"] + row["library_calls"]
    for loop in row["loops"]:
        step = loop["kernels"] + loop["copies"] + loop["library_calls"]
        total += step * ((loop["steps"] or known) - 1)
    return total


def _memory(row: dict[str, Any]) -> int:
    return row["temporary_bytes"]


def main() -> None:
    """Write the table between its markers."""
    rows = read(COMPILED)
    before, rest = DOC.read_text().split(BEGIN)
    after = rest.split(END)[1]
    made = f"{verdict(rows)}\n\n{table(rows, read(RUN))}"
    DOC.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}")


if __name__ == "__main__":
    main()
