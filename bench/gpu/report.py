"""The tables of docs/gpu.md, from the rows of `compile.py` (and of `run.py`, where there are any).

python bench/gpu/report.py
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COMPILED = ROOT / "bench" / "results" / "gpu_compiled.jsonl"
RUN = ROOT / "bench" / "results" / "gpu_run.jsonl"
DOC = ROOT / "docs" / "gpu.md"
# A stock form is near the best one up to here; and what recops may take of what it takes.
NEAR = 1.3
ALLOWED = {"modelled time": 1.0, "launches": 1.0, "temporary memory": 1.05}
BEGIN, END = "<!-- compiled -->", "<!-- /compiled -->"
STEPS_BEGIN, STEPS_END = "<!-- steps -->", "<!-- /steps -->"
STEP = "train_step"
# What a whole step may take of what stock Keras layers take, and models that shall take less.
OF_A_STEP, OF_THESE = 1.0, 0.8
THESE = ("AutoInt", "BST", "DIEN", "DIN", "DSIN", "FiBiNET", "XDeepFM")
DTYPES = ("float32", "bfloat16", "float16")


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


def line(row: dict[str, Any], ran: dict[str, Any] | None, best_us: float | None) -> str:
    """A row of the table; `ran` is its row of `run.py`, `best_us` the best stock form's time."""
    start = f"| `{row['op']}` | {row['case']} | {row['dtype']} | {row['provider']} "
    if row["status"] != "compiled":
        return start + f"| {row['status']} | | | | | | | |"
    calls = ", ".join(dict.fromkeys(row["custom_calls"]))
    us = row.get("modelled_us")
    step = "run" if ran else "compiled" if us is None else "modelled"
    return start + (
        f"| {step} | {row['kernels'] + row['copies'] + row['library_calls']} | {loops(row)} "
        f"| {row['temporary_bytes'] / 2**20:.1f} | {'' if us is None else f'{us:.0f}'} "
        f"| {f'{us / best_us:.2f}' if us and best_us else ''} | {calls} "
        f"| {'' if ran is None else ran.get('median_ms') or ran['status']} |"
    )


def table(rows: Sequence[dict[str, Any]], ran: Sequence[dict[str, Any]]) -> str:
    """One line a program, those of a case together."""
    times = {row["name"]: row for row in ran}
    lines = [
        "| op | case | dtype | form | how far | launches | steps x launches a step "
        "| temporary MiB | modelled us | x best stock | library calls | ms |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for _, group in sorted(grouped(rows).items()):
        best_us = min((r["modelled_us"] for r in stock_of(group)), default=None)
        # Ours first, then the stock forms.
        for row in sorted(group, key=lambda r: r["provider"] != "xla"):
            lines.append(line(row, times.get(row["name"]), best_us))
    made = next(row for row in rows if row["status"] == "compiled")
    lines += [
        "",
        f"{len(rows)} programs, forward and backward of one call each, lowered by TensorFlow "
        f"{made['tf']} and compiled by JAX {made['jax']}'s XLA for {made['target']}. "
        + (f"Run on {ran[0]['device']}." if ran else "None was run."),
    ]
    return "\n".join(lines)


def grouped(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    """The rows of each case and dtype."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["op"], row["case"], row["dtype"]), []).append(row)
    return groups


def stock_of(group: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The stock forms of a case that have a modelled time."""
    return [r for r in group if r["provider"].startswith("stock.") and "modelled_us" in r]


def yardsticks(stock: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of each quantity the stock form to be compared with.

    For memory the leanest of those whose time is near the best: a form that saves memory and takes
    twice as long is none that a user would choose.
    """
    fastest = min(stock, key=_time)
    near = [row for row in stock if _time(row) <= NEAR * _time(fastest)]
    return {
        "modelled time": fastest,
        "launches": min(stock, key=_launches),
        "temporary memory": min(near, key=_memory),
    }


def verdict(rows: Sequence[dict[str, Any]]) -> str:
    """Where recops takes more modelled time, launches or memory than the stock forms."""
    compiled = grouped([row for row in rows if row["status"] == "compiled"])
    lines = []
    for dtype in DTYPES[:2]:
        more: dict[str, list[str]] = {}
        cases, times = 0, []
        for (op, case, kind), group in sorted(compiled.items()):
            stock, ours = stock_of(group), [r for r in group if r["provider"] == "xla"]
            if kind != dtype or not stock or not ours:
                continue
            cases += 1
            for what, best in yardsticks(stock).items():
                size = QUANTITIES[what]
                ratio = size(ours[0]) / size(best)
                times += [ratio] if what == "modelled time" else []
                found = more.setdefault(what, [])
                if ratio > ALLOWED[what]:
                    form = best["provider"].removeprefix("stock.")
                    found.append(f"`{op}` {case} ({ratio:.2f} x {form})")
        for what, found in more.items():
            lines.append(
                f"- {dtype}, {what}: at most {ALLOWED[what]} of the best stock form's in "
                f"{cases - len(found)} of {cases} cases"
                + (f"; more in {', '.join(found)}." if found else ".")
            )
        if times:
            mean = math.exp(sum(map(math.log, times)) / len(times))
            lines.append(
                f"- {dtype}: modelled time {mean:.2f} of the best stock form's, geometric mean."
            )
    return "\n".join(lines)


def _time(row: dict[str, Any]) -> float:
    return row["modelled_us"]


def _launches(row: dict[str, Any]) -> int:
    """Launches of one call. A loop of unknown length counts as the longest of the program's."""
    known = max((loop["steps"] or 0 for loop in row["loops"]), default=0)
    total = row["kernels"] + row["copies"] + row["library_calls"]
    for loop in row["loops"]:
        step = loop["kernels"] + loop["copies"] + loop["library_calls"]
        total += step * ((loop["steps"] or known) - 1)
    return total


def _memory(row: dict[str, Any]) -> int:
    """Bytes; less than a MiB counts as one."""
    return max(row["temporary_bytes"], 2**20)


QUANTITIES: dict[str, Callable[[dict[str, Any]], float]] = {
    "modelled time": _time,
    "launches": _launches,
    "temporary memory": _memory,
}


def steps_table(rows: Sequence[dict[str, Any]], ran: Sequence[dict[str, Any]]) -> str:
    """Whole train steps: a line a program, and above them how each stands to its stock one."""
    times = {row["name"]: row for row in ran}
    lines = [
        "| model | dtype | form | how far | launches | steps x launches a step | waits "
        "| temporary MiB | modelled us | of it launches | x stock | ms |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (_, case, dtype), group in sorted(grouped(rows).items(), key=_by_dtype):
        best_us = min((r["modelled_us"] for r in stock_of(group)), default=None)
        for row in sorted(group, key=lambda r: r["provider"].startswith("stock")):
            start = f"| {case} | {dtype} | {row['provider']} "
            if row["status"] != "compiled":
                lines.append(start + f"| {row['status']} | | | | | | | | |")
                continue
            us, timed = row["modelled_us"], times.get(row["name"])
            lines.append(
                start + f"| {'run' if timed else 'modelled'} "
                f"| {row['kernels'] + row['copies'] + row['library_calls']} | {loops(row)} "
                f"| {row['waits']} | {row['temporary_bytes'] / 2**20:.1f} | {us:.0f} "
                f"| {row['launches_us']:.0f} | {f'{us / best_us:.2f}' if best_us else ''} "
                f"| {'' if timed is None else timed.get('median_ms') or timed['status']} |"
            )
    return f"{steps_verdict(rows)}\n\n" + "\n".join(lines)


def steps_verdict(rows: Sequence[dict[str, Any]]) -> str:
    """Of each dtype, the modelled time of our step beside the stock one, better optimizer first."""
    lines = []
    for dtype in DTYPES:
        found: dict[str, float] = {}
        for (_, case, kind), group in sorted(grouped(rows).items()):
            stock = stock_of(group)
            ours = [r for r in group if r["provider"] == "xla" and "modelled_us" in r]
            if kind == dtype and stock and ours:
                found[case] = _time(ours[0]) / min(map(_time, stock))
        if found:
            mean = math.exp(sum(map(math.log, found.values())) / len(found))
            met = [case for case, ratio in found.items() if ratio <= _allowed(case)]
            missed = [f"{case} ({r:.2f})" for case, r in found.items() if r > _allowed(case)]
            lines.append(
                f"- {dtype}: LazyAdam's step takes {mean:.2f} of the stock step's modelled time, "
                f"geometric mean of {len(found)} models. As little as was asked "
                f"({OF_THESE} for {', '.join(THESE)}, {OF_A_STEP} for the others): "
                f"{', '.join(met) or 'none'}; more in {', '.join(missed) or 'none'}."
            )
    return "\n".join(lines)


def _allowed(case: str) -> float:
    return OF_THESE if case in THESE else OF_A_STEP


def _by_dtype(item: tuple[tuple[str, str, str], Any]) -> tuple[str, int]:
    _, case, dtype = item[0]
    return case, DTYPES.index(dtype)


def put(text: str, begin: str, end: str, made: str) -> str:
    """A text with what was made between two markers."""
    before, rest = text.split(begin)
    return f"{before}{begin}\n{made}\n{end}{rest.split(end)[1]}"


def main() -> None:
    """Write the tables between their markers."""
    rows, ran = read(COMPILED), read(RUN)
    steps = [row for row in rows if row["op"] == STEP]
    ops = [row for row in rows if row["op"] != STEP]
    text = put(DOC.read_text(), BEGIN, END, f"{verdict(ops)}\n\n{table(ops, ran)}")
    DOC.write_text(put(text, STEPS_BEGIN, STEPS_END, steps_table(steps, ran)))


if __name__ == "__main__":
    main()
