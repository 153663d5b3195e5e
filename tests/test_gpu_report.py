"""The table of docs/gpu.md: what is compared with what, and how far each row has come."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

GPU = Path(__file__).parents[1] / "bench" / "gpu"


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(GPU))
    yield __import__("report")
    sys.modules.pop("report", None)


def row(provider: str, us: float | None, mib: float, kernels: int = 4, **facts: Any) -> Any:
    made = {
        "name": f"op-case-{provider}-float32",
        "op": "op",
        "case": "case",
        "dtype": "float32",
        "provider": provider,
        "status": "compiled",
        "kernels": kernels,
        "copies": 0,
        "library_calls": 0,
        "loops": [],
        "custom_calls": [],
        "temporary_bytes": int(mib * 2**20),
        "tf": "2",
        "jax": "0",
        "target": "a GPU",
    }
    return made | ({} if us is None else {"modelled_us": us}) | facts


def test_memory_is_compared_with_forms_that_are_nearly_as_fast(report):
    stock = [row("stock.fast", 100, 50), row("stock.near", 129, 30), row("stock.slow", 131, 10)]
    best = {what: r["provider"] for what, r in report.yardsticks(stock).items()}
    assert best == {
        "modelled time": "stock.fast",
        "launches": "stock.fast",
        "temporary memory": "stock.near",
    }


def test_the_verdict_names_what_takes_more(report):
    rows = [row("xla", 90, 55, kernels=5), row("stock.fast", 100, 50)]
    time, launches, memory, mean = report.verdict(rows).splitlines()
    assert "1 of 1 cases." in time
    assert "0 of 1 cases; more in `op` case (1.25 x fast)." in launches
    assert "0 of 1 cases; more in `op` case (1.10 x fast)." in memory
    assert "modelled time 0.90" in mean


def test_less_than_a_mib_is_no_more_memory(report):
    rows = [row("xla", 90, 0.01), row("stock.fast", 100, 0.0)]
    assert "memory: at most 1.05 of the best stock form's in 1 of 1" in report.verdict(rows)


def test_each_row_says_how_far_it_has_come(report):
    rows = [
        row("xla", 50, 1),
        row("stock.fast", 100, 1),
        row("stock.old", None, 1),
        row("stock.odd", None, 1, status="not lowered: XLA has no Odd"),
    ]
    ran = [{"name": rows[0]["name"], "median_ms": 0.07, "status": "run", "device": "a GPU"}]
    ours, fast, old, odd = report.table(rows, ran).splitlines()[2:6]
    assert ours == "| `op` | case | float32 | xla | run | 4 |  | 1.0 | 50 | 0.50 |  | 0.07 |"
    assert "| modelled | 4 |  | 1.0 | 100 | 1.00 |" in fast
    assert "| compiled | 4 |  | 1.0 |  |  |" in old
    assert odd.startswith("| `op` | case | float32 | stock.odd | not lowered: XLA has no Odd |")
    assert len({line.count("|") for line in (ours, fast, old, odd)}) == 1


def test_a_whole_step_is_compared_with_the_stock_one(report):
    def step(case: str, provider: str, us: float) -> Any:
        return row(provider, us, 1, op=report.STEP, case=case, waits=0, launches_us=5.0)

    rows = [step("DIN", "xla", 81), step("DIN", "stock.keras", 100)]
    rows += [step("DeepFM", "xla", 99), step("DeepFM", "stock.keras", 100)]
    verdict = report.steps_verdict(rows)
    assert "DeepFM; more in DIN (0.81)." in verdict
    assert "takes 0.90 of the stock step's" in verdict
    assert "| DIN | float32 | xla | modelled | 4 |  | 0 | 1.0 | 81 | 5 | 0.81 |  |" in (
        report.steps_table(rows, [])
    )


def test_what_stands_between_the_markers_is_replaced(report):
    assert report.put("a<b>old</b>c", "<b>", "</b>", "new") == "a<b>\nnew\n</b>c"
