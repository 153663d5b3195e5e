"""The demo's parts: the stock DeepFM is ours, and the report shows what was found."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recops import __version__
from recops.models import DIEN, DeepFM
from recops.profiling import op_bench
from tests.models.planted import FEATURES, SEQUENCES, data, read_by
from tests.small_run import dataset

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture(autouse=True)
def _examples(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield
    for name in ("crosses", "demo", "demo_report", "stock_deepfm", "stock_dien"):
        sys.modules.pop(name, None)


def _hidden(stock):
    return [layer for layer in stock.layers if layer.name.startswith("dense")]


def _copy(ours, stock, one_table):
    """Our weights into the stock model's layers."""
    embedding = ours.get_layer("embedding")
    table = embedding.get_weights()[0]
    parts = {}
    for feature in FEATURES:
        if hasattr(feature, "vocabulary_size"):
            first = embedding._starts[feature.name]
            parts[feature.name] = table[first : first + feature.vocabulary_size + 1]
    if one_table:
        stock.get_layer("embedding").set_weights([np.concatenate(list(parts.values()))])
    else:
        for name, rows in parts.items():
            stock.get_layer(f"embedding_{name}").set_weights([rows])
    for name in ("linear", "deep"):
        stock.get_layer(name).set_weights(ours.get_layer(name).get_weights())
    hidden = _hidden(stock)
    values = ours.get_layer("hidden").get_weights()
    for i, layer in enumerate(hidden):
        layer.set_weights(values[2 * i : 2 * i + 2])


@pytest.mark.parametrize("one_table", [False, True])
def test_the_stock_deepfm_is_ours(one_table):
    from stock_deepfm import StockDeepFM

    batch, _ = data(64)
    batch["words"][:5] = 0
    ours = DeepFM(FEATURES, hidden_units=(16, 8), l2_embedding=1e-3, seed=1)
    stock = StockDeepFM(
        FEATURES, hidden_units=(16, 8), l2_embedding=1e-3, seed=1, one_table=one_table
    )
    batch = read_by(ours, batch)
    assert stock.count_params() == ours.count_params()
    _copy(ours, stock, one_table)
    np.testing.assert_allclose(
        stock.predict(batch, verbose=0), ours.predict(batch, verbose=0), atol=1e-6
    )
    penalty = [float(np.sum([np.asarray(loss) for loss in m.losses])) for m in (ours, stock)]
    assert penalty[0] == pytest.approx(penalty[1], rel=1e-5)


def _copy_dien(ours, stock):
    """Our weights into the stock model's layers."""
    embedding = ours.get_layer("embedding")
    table = embedding.get_weights()[0]
    for feature, layer in (("item", "item"), ("noise", "noise"), ("words", "words")):
        first = embedding._starts[feature]
        rows = next(f.vocabulary_size for f in SEQUENCES if f.name == feature) + 1
        stock.get_layer(f"embedding_{layer}").set_weights([table[first : first + rows]])
    interests = ours.get_layer("interests_history").get_weights()
    stock.get_layer("interests_history").set_weights(interests[:3])
    stock.get_layer("loss_history").set_weights(interests[3:])
    evolution = ours.get_layer("evolution_history")
    kernels, biases = evolution.attention.kernels, evolution.attention.biases
    in_turns = [w for pair in zip(kernels, biases) for w in pair] + [kernels[-1]]
    stock.get_layer("attention_history").set_weights([np.asarray(w) for w in in_turns])
    stock.get_layer("evolution_history").set_weights(evolution.gru.get_weights())
    for name in ("normalization", "deep"):
        stock.get_layer(name).set_weights(ours.get_layer(name).get_weights())
    hidden = ours.get_layer("hidden")
    for i, layer in enumerate(_hidden(stock)):
        layer.set_weights(hidden.dense[i].get_weights())
        dice = [part for part in stock.layers if part.name.startswith("dice")][i]
        dice.set_weights(hidden.activations[i].get_weights())


def test_the_stock_dien_is_ours():
    from stock_dien import StockDIEN

    batch, labels = data(64)
    batch["history"][:5] = 0
    options = {"hidden_units": (16, 8), "attention_units": (8,), "auxiliary_units": (8,)}
    models = [make(SEQUENCES, l2_embedding=1e-3, seed=1, **options) for make in (DIEN, StockDIEN)]
    ours, stock = models
    assert stock.count_params() == ours.count_params()
    rng = np.random.default_rng(0)
    ours.set_weights([w + rng.uniform(0.05, 0.2, w.shape) for w in ours.get_weights()])
    _copy_dien(ours, stock)
    batch = read_by(ours, batch)
    got, want = (model.predict(batch, verbose=0) for model in models)
    assert np.std(want) > 1e-3
    np.testing.assert_allclose(got, want, atol=1e-6)
    losses = []
    for model in models:
        model.compile("sgd", "binary_crossentropy", jit_compile=False)
        losses.append(model.evaluate(batch, labels, batch_size=64, verbose=0))
    # Cross-entropy, penalty and auxiliary loss.
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] > 1


def test_both_start_from_the_same_distributions():
    from stock_deepfm import StockDeepFM

    ours, stock = DeepFM(FEATURES, seed=1), StockDeepFM(FEATURES, seed=1)
    for mine, theirs in (
        (ours.get_layer("embedding"), stock.get_layer("embedding_user")),
        (ours.get_layer("hidden"), _hidden(stock)[0]),
    ):
        spreads = [np.abs(layer.get_weights()[0]).max() for layer in (mine, theirs)]
        assert spreads[0] == pytest.approx(spreads[1], rel=0.15)


def _few_crosses(monkeypatch):
    import crosses

    monkeypatch.setattr(crosses, "PAIRS", (("user", "noise"), ("item", "words")))
    monkeypatch.setattr(crosses, "BUCKETS", 1000)
    return crosses


def test_crosses_are_pairs_of_real_columns(monkeypatch):
    crosses = _few_crosses(monkeypatch)
    plain = dataset()
    wide = crosses.crossed(plain)
    assert [f.name for f in wide.features[-2:]] == ["user_x_noise", "item_x_words"]
    assert {f.vocabulary_size for f in wide.features[-2:]} == {1000}
    inputs = wide.train.inputs
    assert inputs["item_x_words"].shape == inputs["words"].shape
    for first, second in crosses.PAIRS:
        buckets, b = inputs[f"{first}_x_{second}"], inputs[second]
        a = np.broadcast_to(inputs[first].reshape(-1, *[1] * (b.ndim - 1)), b.shape)
        real = (a != 0) & (b != 0)
        assert not buckets[~real].any()
        assert buckets[real].min() >= 1
        assert buckets.max() <= 1000
        # A pair has one bucket, and few pairs share one.
        pairs = np.unique(np.stack([a[real], b[real], buckets[real]], 1), axis=0)
        assert len(pairs) == len(np.unique(pairs[:, :2], axis=0))
        assert len(np.unique(pairs[:, 2])) > 0.9 * len(pairs)
    # The same in every process: what is served is hashed again.
    assert crosses.cross(np.array([3, 0]), np.array([[4, 0], [4, 5]])).tolist() == [
        [787, 0],
        [0, 0],
    ]


def test_the_demo_trains_both_and_writes_a_page(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    import demo

    def row(provider, milliseconds):
        return op_bench.Row(
            "fm_interaction", "tiny", provider, "graph", "forward+backward", "float32",
            milliseconds, 0.9, 1.1, 5.0, None, 0.0, 2.0, "ok", "<CPU>", 1, "2", "3",
            __version__, "",
        )  # fmt: skip

    _few_crosses(monkeypatch)
    for name, pair in demo.TRAINED.items():
        # One batch an epoch: every other size would be compiled too.
        settings = replace(pair.settings, batch_size=1600)
        monkeypatch.setitem(demo.TRAINED, name, replace(pair, settings=settings))
    monkeypatch.setattr(demo, "movielens_100k", dataset)
    monkeypatch.setattr(
        demo, "time_ops", lambda *_: [row("xla", 2.0), row("stock.pairs", 5.0), row("reference", 1)]
    )
    options = ["--out", str(tmp_path), "--seeds", "2", "--epochs", "2", "--dien-epochs", "1"]
    assert demo.main([*options, "--crossed-epochs", "1"]) == 0
    said = capsys.readouterr().out
    for name in ("DeepFM", "DIEN", "Crossed DeepFM"):
        for words in ("of recops layers", "of stock Keras layers"):
            assert f"\n{name} {words}" in said
    assert re.search(r"backend (cpp|xla) \(asked for: auto\)", said)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert page.count("<svg") == 5
    # The rows of the tables are on the page: 12 + 12 + 5 + 6 ids and two crosses, each with a 0.
    assert "2,041 rows" in page
    assert "user × noise, item × words" in page
    assert "&lt;CPU&gt;" in page
    assert not re.findall(r"<(?:img|script|link)|(?:src|href)=\"http|\$[a-z_]+", page)


def test_the_demo_without_data_says_so_in_one_place(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    import demo

    monkeypatch.setenv("RECOPS_DATA", str(tmp_path))
    assert demo.main(["--out", str(tmp_path / "out")]) == 2
    assert "RECOPS_DATA" in capsys.readouterr().err
