"""Steps by the size of the tables: picture, README and documents are of the kept rows."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
IDS = (1_000, 100_000, 1_000_000)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    before = set(sys.modules)
    for folder in ("examples", "bench", "bench/peers", "bench/models"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    yield __import__("steps_by_rows")
    here = (str(ROOT / "bench"), str(ROOT / "examples"))
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(here):
            del sys.modules[name]


def _row(side: str, optimizer: str, ids: int, ms: float, compiled: str = "jit") -> dict[str, Any]:
    return {
        "model": "DeepFM", "case": f"DeepFM-{ids}", "ids": ids, "side": side,
        "optimizer": optimizer, "compiled": compiled, "rows": 4096, "median_ms": ms,
        "reference_ms": 10.0 if ids == IDS[-1] else None, "device": "CPU", "threads": 2,
        "tf": "2", "keras": "3", "library": "1", "torch": "4",
    }  # fmt: skip


def _models() -> list[dict[str, Any]]:
    times = {"recops": (10, 11, 12), "stock": (15, 98, 1234)}
    rows = [
        _row(side, "lazy_adam" if side == "recops" else "adam", ids, ms)
        for side, all_ms in times.items()
        for ids, ms in zip(IDS, all_ms)
    ]
    return [*rows, _row("recops", "lazy_adam", 1_000, 14.0, "graph")]


def _peers(bench: Any) -> list[dict[str, Any]]:
    return [
        _row("recops", "lazy_adam", 100_000, 20.0),
        _row("recops", "adam", 100_000, 90.0),
        _row("recops", "adam", 100_000, 95.5, "graph"),
        _row("DeepCTR 0.9.4", "adam", 100_000, 120.0),
        _row("DeepCTR 0.9.4", "adam", 100_000, 100.0, "graph"),
        _row("PyTorch", "sparse_adam", 100_000, 77.0, "eager"),
        _row("FuxiCTR", "adam", 100_000, 300.0, "compile"),
    ]


def test_each_line_is_the_faster_form_of_its_side(bench: Any) -> None:
    drawn = bench.lines(_models(), _peers(bench))
    ms = {n: {ids: row["median_ms"] for ids, row in line.items()} for n, line in drawn.items()}
    assert ms["recops, LazyAdam"] == dict(zip(IDS, (10, 11, 12)))
    assert ms["stock Keras layers, Adam"] == dict(zip(IDS, (15, 98, 1234)))
    assert ms["DeepCTR, Adam"] == {100_000: 100.0}
    assert ms["PyTorch, SparseAdam"] == {100_000: 77.0}


def test_the_picture_has_each_number_and_name(bench: Any, tmp_path: Path) -> None:
    path = tmp_path / "steps.svg"
    bench.save(bench.chart(_models(), _peers(bench)), path)
    first = path.read_text()
    for words in ("recops, LazyAdam: 12 ms", "stock Keras layers, Adam: 1,234 ms", ">98 ms<"):
        assert words in first
    for words in ("26 thousand", "2.6 million", "26 million", "DeepCTR, Adam: 100 ms"):
        assert words in first
    bench.save(bench.chart(_models(), _peers(bench)), path)
    assert path.read_text() == first


def test_names_beside_the_lines_do_not_overlap(bench: Any) -> None:
    times = (20.0, 20.1, 20.2, 900.0, 901.0)
    rows = [_row(s, o, 1_000, ms) for ms, (_, _, s, o) in zip(times, bench.LINES)]
    axes = bench.chart(rows[:2], rows[2:]).axes[0]
    low, high = axes.get_ylim()
    at = sorted(t.xy[1] for t in axes.texts if ":" in t.get_text())
    assert len(at) == 5
    assert min(b / a for a, b in itertools.pairwise(at)) > (high / low) ** 0.05


def test_tables_and_sentences(bench: Any) -> None:
    lines = bench.table(_models()).splitlines()
    assert lines[2] == "| recops, `LazyAdam` | 14.0 / 10.0 | – / 11.0 | – / 12.0 |"
    assert "1.20 times (jit)" in lines[-1]
    said = bench.sentences(_models())
    assert "takes 10 ms" in said
    assert "12 ms over 26 million" in said
    assert "15 ms and 1,234 ms" in said
    assert bench.table([]) == bench.sentences([]) == bench.MISSING


def test_the_table_beside_other_libraries(bench: Any) -> None:
    tables = __import__("tables")
    lines = tables.summary(_peers(bench)).splitlines()
    assert lines[2] == (
        "| 100,000 | Adam | 20.0 | 90.0 / 95.5 | 120.0 / 100.0 | 300.0 | 77.0 | 5.0x |"
    )
    assert "FuxiCTR 1 on PyTorch 4" in lines[-1]
    assert tables.summary([]) == bench.MISSING


def test_large_tables_come_one_library_at_a_time(bench: Any) -> None:
    tables = __import__("tables")
    (together,) = tables.groups(1_000)
    assert len(together) == 20
    apart = tables.groups(tables.LARGE)
    assert all(len([f for f in group if f.side != tables.OURS]) == 1 for group in apart)
    assert all(len(group) == 3 for group in apart)


def test_a_library_that_fails_is_left_out(bench: Any, monkeypatch, bare_python, capsys) -> None:
    tables = __import__("tables")
    monkeypatch.setattr(tables.process, "DEEPCTR", bare_python)
    monkeypatch.setattr(tables.process, "FUXICTR", bare_python)
    monkeypatch.setattr(tables, "BATCH", 8)
    monkeypatch.setattr(tables, "RULES", {"lazy_adam": tables.RULES["lazy_adam"]})
    (rows,) = tables.measure(5, 0.1)
    assert {row["side"] for row in rows} == {tables.OURS}
    assert "No module named 'deepctr'" in capsys.readouterr().err


def test_cases_of_models_at_sizes_step(bench: Any) -> None:
    cases, run = __import__("model_cases"), __import__("run")
    case = cases.CASES["DeepFM-1M"]
    assert {form[1] for form in run.forms(case)} == set(cases.OPTIMIZERS) == set(cases.TABLES_HELD)
    for name, rows in (("DeepFM-1k", cases.fields_of(9, 8)), ("DIEN-100k", cases.clicks_of(9, 8))):
        for form in (("recops", "lazy_adam", "graph"), ("stock", "adam", "graph")):
            step, size = run.stepping(cases.CASES[name], form, rows)
            first = step()
            assert step() < first
            assert size > 0


def test_a_case_without_memory_is_left_out(bench: Any, monkeypatch, capsys) -> None:
    run = __import__("run")
    free = type("Free", (), {"available": 2**30})
    monkeypatch.setattr(run.psutil, "virtual_memory", lambda: free)
    assert list(run.measure("DeepFM-1M", 0.1)) == []
    assert "left out" in capsys.readouterr().out


def test_what_is_shown_is_of_the_kept_rows(bench: Any) -> None:
    run, tables = __import__("run"), __import__("tables")
    models, peers = bench.read(bench.MODELS), bench.read(bench.PEERS)
    for path, marks, made in (
        (bench.README, (run.BEGIN, run.END), run.summary(models)),
        (bench.README, (bench.BEGIN, bench.END), bench.sentences(models)),
        (bench.DOC, (bench.BEGIN, bench.END), bench.table(models)),
        (tables.DOC, (tables.BEGIN, tables.END), tables.summary(peers)),
    ):
        assert f"{marks[0]}\n{made}\n{marks[1]}" in path.read_text()
    if bench.deepfm(models):
        drawn = bench.CHART.read_text()
        for name, points in bench.lines(models, peers).items():
            assert f">{name}: {bench.number(list(points.values())[-1]['median_ms'])}<" in drawn
