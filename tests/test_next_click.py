"""The example of the next click: no window holds what is held out, hits are counted, it runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recops.data.movielens import MovieLens
from tests.models.planted_retrieval import rings

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import next_click

    return next_click


def test_what_is_held_out_is_not_learned_from(example):
    clicks = example.split(rings())
    assert (len(clicks.last), clicks.size) == (24, 11)
    for user, (earlier, last) in enumerate(zip(clicks.earlier, clicks.last), start=1):
        want = 1 + (3 * user + np.arange(16)) % 11
        np.testing.assert_array_equal([*earlier, *last], want)
    source, target = example.windows(clicks, example.READ)
    assert len(source) == 24 * 10
    np.testing.assert_array_equal(source[9, :11], [*clicks.earlier[0][:10], 0])
    np.testing.assert_array_equal(target[9], [12, clicks.earlier[0][10], 0, 0, 0, 0])


def test_hits_are_counted(example):
    earlier, last = [np.array([1]), np.array([2])], np.array([[3, 0], [0, 4]])
    clicks = example.Clicks(np.arange(2), earlier, last, np.arange(21))
    decoded = np.array([[9, 3], [9, 0]])
    scores = np.tile(-np.arange(21.0), (2, 1))
    assert example.hit_rates(decoded, scores, clicks) == (0.5, 0.5)
    scores[:, 3] = -100
    assert example.hit_rates(decoded, scores, clicks) == (0.5, 0.0)


def test_it_trains_decodes_and_prints_both(example, monkeypatch, capsys):
    monkeypatch.setattr(example, "load", rings)
    assert example.main(["--epochs", "1", "--d-model", "8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "24 users, 11 films, 240 windows"
    assert [line[:14].strip() for line in lines[-2:]] == ["most popular", "Transformer"]
    for line in lines[-2:]:
        assert all(0 <= float(rate) <= 1 for rate in line.split()[-2:])


def test_without_data_it_says_so(example, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("RECOPS_DATA", str(tmp_path))
    assert example.main([]) == 2
    assert "RECOPS_DATA" in capsys.readouterr().err


def test_clicks_of_one_second_are_in_no_order(example):
    rows = [(user, film, 5, 0) for user in range(1, 9) for film in range(1, 21)]
    clicks = example.split(MovieLens((), (), np.array(rows)))
    rising = np.mean([np.mean(np.diff(films) > 0) for films in clicks.earlier])
    assert 0.3 < rising < 0.7
