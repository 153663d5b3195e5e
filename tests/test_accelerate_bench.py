"""DeepCTR's models before and after `accelerate`: the table of what was kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench" / "peers"))
    yield __import__("accelerate")
    sys.modules.pop("accelerate", None)


def rows(bench, name="AFM", before=90.0, after=30.0):
    common = {"device": "CPU", "threads": 2, "recops": "0", "tf": "2", "keras": "3"}
    common["swapped"] = [["a", "AFMLayer", "ours"], ["b", "AFMLayer", "ours"]]
    sides = {bench.BEFORE: before, bench.AFTER: after}
    return [{"case": name, "side": s, "median_ms": ms, **common} for s, ms in sides.items()]


def test_the_table_says_how_many_times_faster(bench):
    lines = bench.summary([*rows(bench), *rows(bench, "PNN", 10.0, 20.0)]).splitlines()
    assert lines[2] == "| AFM | 90.0 | 30.0 | 3.00x | AFMLayer |"
    assert lines[3] == "| PNN | 10.0 | 20.0 | 0.50x | AFMLayer |"
    assert lines[-1].startswith("CPU, 2 threads")


def test_kept_rows_make_the_table_in_the_document(bench):
    kept = []
    if bench.ROWS.exists():
        kept = [json.loads(line) for line in bench.ROWS.read_text().splitlines()]
    text = bench.DOC.read_text()
    assert f"{bench.BEGIN}\n{bench.summary(kept)}\n{bench.END}" in text


def test_what_is_measured_again_takes_the_place_of_its_rows(bench, monkeypatch, tmp_path):
    path, doc = tmp_path / "rows.jsonl", tmp_path / "doc.md"
    doc.write_text(f"before\n{bench.BEGIN}\n{bench.END}\nafter\n")
    path.write_text("".join(json.dumps(r) + "\n" for r in (*rows(bench), *rows(bench, "PNN"))))
    monkeypatch.setattr(bench, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(bench, "measure", lambda name, _: rows(bench, name, after=45.0))
    assert bench.main(["PNN", "NFM", "--rows", str(path), "--doc", str(doc)]) == 0
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["case"] for row in kept[::2]] == ["AFM", "PNN", "NFM"]
    assert [row["median_ms"] for row in kept[1::2]] == [30.0, 45.0, 45.0]
    assert doc.read_text() == f"before\n{bench.BEGIN}\n{bench.summary(kept)}\n{bench.END}\nafter\n"


@pytest.mark.needs("keras3", "the peers' environment has Keras 3")
def test_a_case_steps_before_and_after(bench, monkeypatch):
    # Here both libraries stand in one environment.
    monkeypatch.setattr(bench, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(bench, "BATCH", 64)
    monkeypatch.setattr(bench, "FIELDS", 3)
    case = bench.Case("DeepFM", {"dnn_hidden_units": (4,)}, ids=20)
    monkeypatch.setitem(bench.CASES, "small", case)
    before, after = bench.measure("small", 0.1)
    assert (before["side"], after["side"]) == (bench.BEFORE, bench.AFTER)
    assert before["rounds"] == after["rounds"] >= 7
    assert {was for _, was, _ in after["kept"]} >= {"DNN"}


def test_without_the_peer_it_says_how_to_get_it(bench, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench, "PYTHON", tmp_path / "none")
    assert bench.main(["AFM"]) == 2
    assert "make peers" in capsys.readouterr().err
