"""Steps beside another library: one model on either side, and a table of what was kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def steps(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench" / "peers"))
    yield __import__("steps")
    sys.modules.pop("steps", None)


def rows(steps, name="FM", ours=10.0, mixed=8.0, theirs=40.0):
    common = {"rows": 4096, "device": "CPU", "threads": 2, "tf": "2", "keras": "3", "library": "1"}
    sides = {steps.OURS: ours, steps.MIXED: mixed, steps.PEER: theirs}
    return [{"model": name, "side": side, "median_ms": ms, **common} for side, ms in sides.items()]


def test_the_table_says_how_many_times_faster(steps):
    lines = steps.summary([*rows(steps), *rows(steps, "AFM", ours=80.0)]).splitlines()
    assert lines[2] == "| FM | 10.0 | 8.0 | 40.0 | 4.0x | 5.0x |"
    assert lines[3] == "| AFM | 80.0 | 8.0 | 40.0 | 0.5x | 5.0x |"
    assert lines[-1].startswith("CPU, 2 threads")


def test_kept_rows_make_the_table_in_the_document(steps):
    kept = [json.loads(line) for line in steps.ROWS.read_text().splitlines()]
    text = steps.DOC.read_text()
    assert f"{steps.BEGIN}\n{steps.summary(kept)}\n{steps.END}" in text


def test_what_is_measured_again_takes_the_place_of_its_rows(steps, monkeypatch, tmp_path):
    path, doc = tmp_path / "rows.jsonl", tmp_path / "doc.md"
    doc.write_text(f"before\n{steps.BEGIN}\n{steps.END}\nafter\n")
    path.write_text(
        "".join(json.dumps(r) + "\n" for r in (*rows(steps, "AFM"), *rows(steps, "PNN")))
    )
    monkeypatch.setattr(steps, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(steps, "measure", lambda name, _: rows(steps, name, theirs=70.0))
    assert steps.main(["PNN", "NFM", "--rows", str(path), "--doc", str(doc)]) == 0
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["model"] for row in kept[::3]] == ["AFM", "PNN", "NFM"]
    assert [row["median_ms"] for row in kept[2::3]] == [40.0, 70.0, 70.0]
    assert doc.read_text() == f"before\n{steps.BEGIN}\n{steps.summary(kept)}\n{steps.END}\nafter\n"


def test_without_the_peer_it_says_how_to_get_it(steps, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(steps, "PYTHON", tmp_path / "none")
    assert steps.main(["AFM"]) == 2
    assert "make peers" in capsys.readouterr().err


def test_a_peer_that_ends_says_why(steps, monkeypatch, bare_python):
    monkeypatch.setattr(steps, "PYTHON", bare_python)
    theirs = steps.peer("AFM", *steps.batch())
    with pytest.raises(RuntimeError, match=r"AFM ended(.|\n)*No module named 'deepctr'"), theirs:
        pass


def test_ours_step_in_either_precision(steps, monkeypatch):
    monkeypatch.setattr(steps, "BATCH", 8)
    for policy in ("float32", "mixed_bfloat16"):
        step, size = steps.own("DeepFM", *steps.batch(), policy)
        first = step()
        assert step() < first
        assert size > steps.FIELDS * steps.IDS * steps.DIM
    assert steps.keras.mixed_precision.global_policy().name == "float32"


@pytest.mark.parametrize("theirs", [1, 10**9])
def test_models_of_another_size_are_not_compared(steps, monkeypatch, theirs):
    from contextlib import contextmanager

    @contextmanager
    def other(*_):
        yield (lambda: 0.0), {"parameters": theirs}

    monkeypatch.setattr(steps, "BATCH", 8)
    monkeypatch.setattr(steps, "peer", other)
    with pytest.raises(ValueError, match="are not one model"):
        steps.measure("AFM", 0.1)
