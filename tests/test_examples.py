"""The demo's parts: the stock DeepFM is ours, and the report shows what was found."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from recops import __version__, benchmark
from recops.models import DeepFM
from tests.models.planted import FEATURES, data
from tests.small_run import dataset

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture(autouse=True)
def _examples(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield
    for name in ("demo", "demo_report", "stock_deepfm"):
        sys.modules.pop(name, None)


def _hidden(stock):
    return [layer for layer in stock.layers if layer.name.startswith("dense")]


def _copy(ours, stock):
    """Our weights into the stock model's layers."""
    embedding = ours.get_layer("embedding")
    table = embedding.get_weights()[0]
    for feature in FEATURES:
        if hasattr(feature, "vocabulary_size"):
            first = embedding._starts[feature.name]
            rows = table[first : first + feature.vocabulary_size + 1]
            stock.get_layer(f"embedding_{feature.name}").set_weights([rows])
    for name in ("linear", "deep"):
        stock.get_layer(name).set_weights(ours.get_layer(name).get_weights())
    hidden = _hidden(stock)
    values = ours.get_layer("hidden").get_weights()
    for i, layer in enumerate(hidden):
        layer.set_weights(values[2 * i : 2 * i + 2])


def test_the_stock_deepfm_is_ours():
    from stock_deepfm import StockDeepFM

    batch, _ = data(64)
    batch["words"][:5] = 0
    ours = DeepFM(FEATURES, hidden_units=(16, 8), l2_embedding=1e-3, seed=1)
    stock = StockDeepFM(FEATURES, hidden_units=(16, 8), l2_embedding=1e-3, seed=1)
    assert stock.count_params() == ours.count_params()
    _copy(ours, stock)
    np.testing.assert_allclose(
        stock.predict(batch, verbose=0), ours.predict(batch, verbose=0), atol=1e-6
    )
    penalty = [float(np.sum([np.asarray(loss) for loss in m.losses])) for m in (ours, stock)]
    assert penalty[0] == pytest.approx(penalty[1], rel=1e-5)


def test_both_start_from_the_same_distributions():
    from stock_deepfm import StockDeepFM

    ours, stock = DeepFM(FEATURES, seed=1), StockDeepFM(FEATURES, seed=1)
    for mine, theirs in (
        (ours.get_layer("embedding"), stock.get_layer("embedding_user")),
        (ours.get_layer("hidden"), _hidden(stock)[0]),
    ):
        spreads = [np.abs(layer.get_weights()[0]).max() for layer in (mine, theirs)]
        assert spreads[0] == pytest.approx(spreads[1], rel=0.15)


def test_the_demo_trains_both_and_writes_a_page(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    import demo

    def row(provider, milliseconds):
        return benchmark.Row(
            "fm_interaction", "tiny", provider, "graph", "forward+backward", "float32",
            milliseconds, 0.9, 1.1, 5.0, None, 0.0, 2.0, "ok", "<CPU>", 1, "2", "3",
            __version__, "",
        )  # fmt: skip

    monkeypatch.setattr(demo, "movielens_100k", dataset)
    monkeypatch.setattr(
        demo, "time_ops", lambda *_: [row("xla", 2.0), row("stock.pairs", 5.0), row("reference", 1)]
    )
    assert demo.main(["--out", str(tmp_path), "--seeds", "2", "--epochs", "2"]) == 0
    said = capsys.readouterr().out
    for words in ("DeepFM of recops layers", "DeepFM of stock Keras layers", "backend xla"):
        assert words in said
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert page.count("<svg") == 2
    assert "&lt;CPU&gt;" in page
    assert not re.findall(r"<(?:img|script|link)|(?:src|href)=\"http|\$[a-z_]+", page)


def test_the_demo_without_data_says_so_in_one_place(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    import demo

    monkeypatch.setenv("RECOPS_DATA", str(tmp_path))
    assert demo.main(["--out", str(tmp_path / "out")]) == 2
    assert "RECOPS_DATA" in capsys.readouterr().err
