"""The README's speed table and chart: of the kept rows, as `bench/run.py` makes them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def bench() -> Any:
    spec = importlib.util.spec_from_file_location("bench_run", ROOT / "bench" / "run.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look up annotations
    spec.loader.exec_module(module)
    return module


def _row(provider: str, ms: float | None, mode: str = "forward+backward", **other: Any) -> Any:
    row = {"op": "cin", "case": "small", "dtype": "float32", "compiled": "jit", "floor_ratio": 1.5}
    return {**row, "provider": provider, "median_ms": ms, "mode": mode, **other}


def test_the_fastest_of_each_side_is_compared(bench: Any) -> None:
    rows = [
        _row("cpp", 4.0, compiled="graph"),
        _row("cpp", 3.0),
        _row("cpp", 1.0, mode="forward"),
        _row("xla", 6.0),
        _row("reference", 0.5),
        _row("stock.einsum", 9.0),
        _row("stock.gathers", 12.0),
        _row("stock.conv1d", None),
        _row("xla", 2.0, case="no_stock"),
        _row("cpp", 5.0, dtype="bfloat16"),
        _row("stock.einsum", 4.0, dtype="bfloat16"),
    ]
    wide, half = bench.compared(rows)
    assert (wide.case, wide.speed_up, wide.over("xla")) == ("small", 3.0, "2.0x")
    assert (wide.over("stock.gathers"), wide.over("stock.conv1d")) == ("4.0x", "")
    assert (half.case, half.speed_up) == ("small, bfloat16", 0.8)


def test_the_chart_has_a_bar_a_case_the_longest_on_top(bench: Any) -> None:
    rows = bench.read(bench.ROWS)
    bars = bench.chart(rows).axes[0].patches
    widths = [bar.get_width() for bar in bars]
    assert widths == sorted(case.speed_up for case in bench.compared(rows))


def test_readme_and_chart_are_of_the_kept_rows(bench: Any) -> None:
    rows = bench.read(bench.ROWS)
    shown = bench.README.read_text().split(bench.BEGIN)[1].split(bench.END)[0]
    assert shown.strip() == bench.table(rows)
    drawn = bench.CHART.read_text()
    for case in bench.compared(rows):
        assert f">{case.op}  {case.case}<" in drawn
        assert f">{case.speed_up:.1f}x<" in drawn
