"""`recops accelerate`: a file in, a file out, one line for what is wrong, nothing half-written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recops
from recops._core.compat import keras
from recops.cli import main
from tests.accelerate.models import L, batch, behaviour, labels, same

pytestmark = pytest.mark.skipif(
    not recops._core.compat.KERAS_3, reason="messages of a broken file are those of Keras 3"
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = behaviour()
    model.compile("adam", "binary_crossentropy")
    model.train_on_batch(batch(), labels())
    model.save(tmp_path / "in.keras")
    return tmp_path / "in.keras"


def _run(*words: Any) -> int:
    try:
        return main(["accelerate", *map(str, words)])
    except SystemExit as stopped:
        return int(stopped.code or 0)


def test_a_file_becomes_a_faster_one(saved: Path, tmp_path: Path, capsys: Any) -> None:
    out, page, found = (tmp_path / name for name in ("out.keras", "page.html", "report.json"))
    line = (saved, out, "--no-measure", "--html", page, "--json", found, "--keep", "attention")
    assert _run(*line) == 0
    said = capsys.readouterr().out
    assert "recops.layers.GRU" in said
    assert f"written to {out}" in said
    fast = keras.models.load_model(out)
    same(keras.models.load_model(saved)(batch()), fast(batch()))
    assert isinstance(fast.optimizer, recops.optimizers.LazyAdam)
    assert int(fast.optimizer.iterations) == 1
    rows = {row["layer"]: row["now"] for row in json.loads(found.read_text())["rows"]}
    assert rows["attention"] is None
    assert rows["gru"] == "recops.layers.GRU"
    assert "<table>" in page.read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["in.keras", "out.keras", "page.html", "report.json"]
    )


def _truncated(source: Path) -> None:
    source.write_bytes(source.read_bytes()[:-200])


def _no_zip(source: Path) -> None:
    source.write_text("not a model")


def _lambda(source: Path) -> None:
    x = keras.Input((3,))
    keras.Model(x, L.Lambda(lambda v: v * 2)(x)).save(source)


def _foreign(source: Path) -> None:
    class Foreign(L.Layer):
        def call(self, x: Any) -> Any:
            return x

    x = keras.Input((3,))
    keras.Model(x, Foreign()(x)).save(source)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_truncated, "is no whole .keras file"),
        (_no_zip, "is no whole .keras file"),
        (_lambda, "holds a Lambda layer"),
        (_foreign, "Foreign"),
        (Path.unlink, "there is no model at"),
    ],
)
def test_a_file_that_is_no_model(
    spoil: Any, said: str, saved: Path, tmp_path: Path, capsys: Any
) -> None:
    spoil(saved)
    assert _run(saved, tmp_path / "out.keras", "--no-measure") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert said in lines[-1]
    assert not (tmp_path / "out.keras").exists()


@pytest.mark.parametrize("target", ["/proc/out.keras", "missing/out.keras", "out.h5"])
def test_a_place_that_cannot_be_written(target: str, saved: Path, capsys: Any) -> None:
    where = target if target.startswith("/") else saved.parent / target
    assert _run(saved, where, "--no-measure") == 2
    said = capsys.readouterr().err
    assert "OUT must end in .keras" in said or "cannot be written" in said


def test_a_batch_that_does_not_fit(saved: Path, tmp_path: Path, capsys: Any) -> None:
    history, user, item = (np.asarray(x) for x in batch())
    np.savez(tmp_path / "batch.npz", history=history[:, :5], user=user, item=item)
    line = (saved, tmp_path / "out.keras", "--batch", tmp_path / "batch.npz")
    assert _run(*line) == 2
    assert "[24, 5] for the input 'history'" in capsys.readouterr().err
    np.savez(tmp_path / "batch.npz", history=history, user=user)
    assert _run(*line) == 2
    assert "batch lacks 'item'" in capsys.readouterr().err
    assert not (tmp_path / "out.keras").exists()


def test_a_failed_save_leaves_the_old_file(saved: Path, tmp_path: Path, monkeypatch: Any) -> None:
    out = tmp_path / "out.keras"
    out.write_text("before")

    def broken(model: Any, path: Path) -> None:
        Path(path).write_text("half")
        raise OSError("no space left on the device")

    monkeypatch.setattr(keras.Model, "save", broken)
    assert _run(saved, out, "--no-measure") == 2
    assert out.read_text() == "before"
    assert not list(tmp_path.glob(".recops-*"))
