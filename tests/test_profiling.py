"""The stopwatch and the op bench: rounds, floors, rows, and that a wrong provider is not timed."""

from __future__ import annotations

import dataclasses
import json
import re
import time

import numpy as np
import pytest
import tensorflow as tf

from recops import profiling
from recops._core.cases import Case, tagged
from recops.profiling import op_bench
from recops.profiling.comparison import slower
from recops.profiling.judge import judge


def test_rounds_are_interleaved() -> None:
    calls: list[str] = []
    profiling.interleave(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, seconds=0, warmup=1
    )
    assert calls == ["a", "b"] * (1 + profiling.MIN_ROUNDS)


def test_medians_tell_slow_from_fast() -> None:
    timed = profiling.interleave(
        {"slow": lambda: time.sleep(0.02), "fast": lambda: time.sleep(0.002)}, seconds=0.1
    )
    assert 15 < timed["slow"].median_ms < 60
    assert timed["fast"].median_ms < timed["slow"].median_ms
    assert timed["slow"].p20_ms <= timed["slow"].median_ms <= timed["slow"].p80_ms


def test_floor_is_the_slower_of_arithmetic_and_memory() -> None:
    rates = profiling.Rates(flops=1e9, bytes=1e9)
    assert rates.floor_ms(2e6, 1e6) == pytest.approx(2.0)
    assert rates.floor_ms(1e6, 3e6) == pytest.approx(3.0)


def test_rates_are_those_of_a_computer() -> None:
    rates = profiling.rates("float32", size=512, megabytes=32)
    assert 1e9 < rates.flops < 1e15
    assert 1e8 < rates.bytes < 1e13


def test_peak_memory_sees_a_large_tensor() -> None:
    peak = profiling.peak_mib(lambda: tf.zeros([64 * 2**20 // 4]) + 1.0)
    assert peak is None or 60 < peak < 300


def test_bench_rows_are_complete_json() -> None:
    case = op_bench.cases("test", ["pairwise_inner"])[0]
    rows = list(op_bench.run(case, seconds=0.0))
    providers = {(r.provider, r.compiled, r.mode) for r in rows}
    assert len(providers) == len(rows)
    for wanted in ("xla", "reference", "stock.gathers", "stock.gram"):
        assert {p[2] for p in providers if p[0] == wanted} == set(op_bench.MODES)
    for row in rows:
        plain = json.loads(json.dumps(row.to_dict()))
        assert plain["status"] == "ok"
        assert plain["max_error"] < 1e-5
        assert plain["median_ms"] > 0
        assert plain["floor_ratio"] > 0
    assert "pairwise_inner" in op_bench.summary(rows)


def test_a_wrong_provider_is_reported_and_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    case = op_bench.cases("test", ["bi_interaction"])[0]
    wrong = {("broken", "graph"): lambda x: tf.reduce_sum(x, axis=1)}
    right = op_bench.providers(case)
    monkeypatch.setattr(op_bench, "providers", lambda c: {**wrong, **right})
    rows = {(r.provider, r.mode): r for r in op_bench.run(case, seconds=0.0)}
    assert rows["broken", "forward"].status.startswith("wrong: error")
    assert rows["broken", "forward"].median_ms is None
    assert rows["xla", "forward"].status == "ok"
    assert "wrong: error" in op_bench.summary(list(rows.values()))


_TRUTH = [np.array([1.0, 2.0]), np.array([[3.0], [4.0]])]


@pytest.mark.parametrize(
    ("results", "said"),
    [
        (_TRUTH, "ok"),
        ([_TRUTH[0], np.array([[np.nan], [4.0]])], "wrong: error inf"),
        ([_TRUTH[0], np.array([[np.inf], [4.0]])], "wrong: error inf"),
        ([_TRUTH[0]], "wrong: 1 results, expected 2"),
        ([_TRUTH[0], None], "wrong: result 1 is missing"),
        ([_TRUTH[0], np.array([[3.0, 3.0], [4.0, 4.0]])], r"result 1 has shape \(2, 2\)"),
        ([_TRUTH[0], np.array([[3.0], [4.1]])], "wrong: error 2.5e-02"),
    ],
)
def test_the_judge_sees_each_result(results, said) -> None:
    assert re.search(said, judge(results, _TRUTH, "float32")[1])


def test_the_judge_takes_what_shall_not_be_finite() -> None:
    truth = [np.array([1.0, np.inf, -2.0])]
    assert judge(truth, truth, "float32") == (0.0, "ok")
    assert judge([np.zeros(3)], truth, "float32")[1] == "wrong: error inf"


def _timed(provider: str, milliseconds: float) -> dict[str, object]:
    keys = {"op": "cin", "case": "small", "mode": "forward", "dtype": "float32"}
    return {**keys, "provider": provider, "median_ms": milliseconds}


def test_slower_is_what_fell_behind_its_stock_form_twice() -> None:
    kept = [_timed("stock.a", 8.0), _timed("stock.b", 9.0), _timed("xla", 4.0), _timed("cpp", 2.0)]
    # A machine half as fast, on which `xla` is level, `cpp` has lost a third; then once more.
    now = [_timed("stock.a", 16.0), _timed("xla", 8.0), _timed("cpp", 6.0)]
    asked = []

    def again(op, case):
        asked.append((op, case))
        return found

    found = [_timed("stock.a", 16.0), _timed("xla", 9.0), _timed("cpp", 6.5)]
    (fallen,) = slower(now, kept, again)
    assert (fallen.key[4], fallen.before, round(fallen.now, 2)) == ("cpp", 4.0, 2.67)
    assert "cin small forward float32 cpp: 4.00x the best stock form before, 2.67x" in str(fallen)
    assert asked == [("cin", "small")]
    found = [_timed("stock.a", 16.0), _timed("xla", 9.0), _timed("cpp", 4.1)]
    assert slower(now, kept, again) == []
    assert slower(kept, kept, again) == []


def test_a_wide_spread_is_said() -> None:
    case = op_bench.cases("test", ["pairwise_inner"])[0]
    row = next(op_bench.run(case, seconds=0.0))
    quiet = dataclasses.replace(row, median_ms=10.0, p20_ms=9.5, p80_ms=10.5)
    assert "!" not in op_bench.summary([quiet])
    wide = op_bench.summary([dataclasses.replace(quiet, p80_ms=13.0)])
    assert "9.50-13.00 !" in wide
    assert "over 30% of the median" in wide


def test_a_table_counts_by_the_rows_that_are_read() -> None:
    case = Case(
        "embedding_lookup",
        "tiny",
        lambda rng: {"table": rng.normal(size=(100, 4)), "ids": np.zeros((2, 3), np.int32)},
        tagged("test"),
        rows_read={"table": 6},
    )
    arrays = case.arrays("float32")
    out = [np.zeros((2, 3, 4))]
    forward = op_bench._moved(case, arrays, out, "float32", backward=False)
    assert forward == 6 * 4 + 4 * (6 * 4 + 24)
    both = op_bench._moved(case, arrays, [*out, np.zeros((100, 4))], "float32", backward=True)
    assert both == 6 * 4 + 2 * 4 * (6 * 4 + 24)


def test_unknown_op_is_named() -> None:
    with pytest.raises(ValueError, match=r"expected an op among .*fm_interaction.*got 'fm'"):
        op_bench.cases("bench", ["fm"])
