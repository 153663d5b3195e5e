"""The README's table of versions is of the kept rows, the last one of each."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from recops._core import compat
from tests.kept_run import keep

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    yield __import__("versions")
    for name in ("versions", "steps_by_rows"):
        sys.modules.pop(name, None)


def test_a_run_is_kept_with_what_it_ran_on(tmp_path: Path) -> None:
    one = SimpleNamespace()
    stats = {"passed": [one] * 3, "failed": [one], "error": [one], "": [one] * 9}
    keep(tmp_path / "rows.jsonl", ["tests"], stats, started=0.0)
    keep(tmp_path / "rows.jsonl", ["tests/a.py", "tests/b"], {}, started=0.0)
    keep(tmp_path / "rows.jsonl", ["tests"], {}, started=0.0, ignored=["tests/ops"])
    first, second, third = map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())
    assert (first["passed"], first["failed"], first["skipped"]) == (3, 2, 0)
    assert (first["tests"], second["tests"]) == ("all", "`tests/a.py`, `tests/b`")
    assert third["tests"] == "all but `tests/ops`"
    assert first["tf"] == tf.__version__
    assert first["keras"].startswith(compat.KERAS_VERSION)


def test_the_table_has_the_last_run_of_each_and_the_newest_first(versions: Any) -> None:
    row = {"keras": "3", "python": "3.11", "tests": "all", "failed": 0, "skipped": 1, "seconds": 90}
    rows = [
        {**row, "tf": "2.9.1", "passed": 5},
        {**row, "tf": "2.21.0", "passed": 6, "failed": 7},
        {**row, "tf": "2.21.0", "passed": 8},
    ]
    lines = versions.table(rows).splitlines()[2:]
    assert lines == [
        "| 2.21.0 | 3 | 3.11 | all | 8 | 0 | 1 | 1.5 |",
        "| 2.9.1 | 3 | 3.11 | all | 5 | 0 | 1 | 1.5 |",
    ]


def test_the_readme_is_that_of_the_kept_rows(versions: Any) -> None:
    kept = versions.table(versions.read(versions.ROWS))
    text = versions.README.read_text()
    assert kept in text[text.index(versions.BEGIN) : text.index(versions.END)]
