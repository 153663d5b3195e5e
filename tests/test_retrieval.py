"""The index: exact search by definition, other engines beside it, files and refusals."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from recops import retrieval
from recops.retrieval import ENGINES, METRICS, Index

RNG = np.random.default_rng(3)
VECTORS = RNG.normal(size=(200, 8)).astype("float32")
QUERIES = RNG.normal(size=(17, 8)).astype("float32")
IDS = np.arange(1000, 1200)
MODULES = {"exact": "numpy", "faiss": "faiss", "annoy": "annoy"}


def by_definition(metric, k):
    """Scores and ids one query and item at a time."""
    scores, ids = [], []
    for q in QUERIES.astype(float):
        each = {
            "inner_product": [q @ v for v in VECTORS.astype(float)],
            "l2": [((q - v) ** 2).sum() for v in VECTORS.astype(float)],
            "cosine": [
                q @ v / np.linalg.norm(q) / np.linalg.norm(v) for v in VECTORS.astype(float)
            ],
        }[metric]
        order = sorted(range(200), key=lambda i: each[i] if metric == "l2" else -each[i])[:k]
        scores.append([each[i] for i in order])
        ids.append([IDS[i] for i in order])
    return np.array(scores), np.array(ids)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("engine", ENGINES)
def test_best_first(engine, metric, monkeypatch):
    pytest.importorskip(MODULES[engine])
    monkeypatch.setattr(retrieval, "_BLOCK_SCORES", 600)  # three queries a block
    scores, ids = Index(VECTORS, IDS, metric, engine).search(QUERIES, k=9)
    want_scores, want_ids = by_definition(metric, 9)
    assert scores.dtype == np.float32
    if engine == "annoy":
        # Its trees miss some; what it finds has its true score.
        shared = [np.isin(mine, best).mean() for mine, best in zip(ids, want_ids)]
        assert np.mean(shared) > 0.9
        hit = ids == want_ids
        np.testing.assert_allclose(scores[hit], want_scores[hit], rtol=1e-4, atol=1e-5)
    else:
        np.testing.assert_array_equal(ids, want_ids)
        np.testing.assert_allclose(scores, want_scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_a_stored_vector_is_its_own_first_neighbour(metric):
    scores, ids = Index(VECTORS, metric=metric).search(VECTORS, k=1)
    np.testing.assert_array_equal(ids[:, 0], np.arange(200))
    np.testing.assert_allclose(scores, 1.0 if metric == "cosine" else 0.0, atol=1e-6)


@pytest.mark.parametrize(("far", "spread"), [((50.0, 8.0), 0.05), ([1000.0] * 16, 0.5)])
def test_l2_of_near_items_that_lie_far_from_the_origin(far, spread):
    vectors = (far + np.random.default_rng(0).normal(size=(3000, len(far))) * spread).astype("f4")
    scores, found = Index(vectors, metric="l2").search(vectors[:50] + np.float32(spread / 9), 10)
    exact = vectors.astype(float)
    queries = (vectors[:50] + np.float32(spread / 9)).astype(float)
    distances = ((queries[:, None] - exact) ** 2).sum(axis=2)
    np.testing.assert_array_equal(found, np.argsort(distances, axis=1, kind="stable")[:, :10])
    np.testing.assert_allclose(scores, np.sort(distances, axis=1)[:, :10], rtol=1e-5)


@pytest.mark.parametrize("length", [1e-25, 1e25])
def test_cosine_of_very_short_and_long_vectors(length):
    scores, found = Index(VECTORS * np.float32(length), metric="cosine").search(VECTORS[:5], 1)
    assert found.ravel().tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(scores, 1, atol=1e-5)


def test_zeros_and_equal_items():
    index = Index([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [1.0, 0.0]], metric="cosine")
    scores, ids = index.search([[3.0, 0.0], [0.0, 0.0]], k=4)
    assert ids[0].tolist() == [1, 2, 3, 0]
    assert scores.tolist() == [[1, 1, 1, 0], [0, 0, 0, 0]]


def test_saved_and_loaded(tmp_path):
    path = tmp_path / "items.index"
    index = Index(VECTORS, IDS, "l2")
    index.save(path)
    again = Index.load(path)
    assert (again.metric, again.engine, len(again)) == ("l2", "exact", 200)
    for mine, theirs in zip(again.search(QUERIES, 5), index.search(QUERIES, 5)):
        np.testing.assert_array_equal(mine, theirs)
    assert [p.name for p in tmp_path.iterdir()] == ["items.index"]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="is no saved index"):
        Index.load(path)
    with path.open("wb") as f:
        np.save(f, VECTORS)
    with pytest.raises(ValueError, match="is no saved index"):
        Index.load(path)
    with pytest.raises(FileNotFoundError):
        Index.load(tmp_path / "none")


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"faiss-cpu: pip install 'recops\[ann\]'"):
        Index(VECTORS, engine="faiss")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"vectors": [1.0, 2.0]}, r"floats \[N, D\], got dtype float64 with shape \[2\]"),
        ({"vectors": np.ones((0, 2))}, "at least one item"),
        ({"vectors": [[1.0, np.nan]]}, "finite, row 0"),
        ({"vectors": VECTORS, "ids": [1]}, r"ids must be \[200\] integers"),
        ({"vectors": [[1.0]], "ids": np.array([2**63], np.uint64)}, f"fit int64, got {2**63}"),
        ({"vectors": VECTORS, "metric": "dot"}, "one of inner_product, l2, cosine, got 'dot'"),
        ({"vectors": VECTORS, "engine": "hnsw"}, "one of exact, faiss, annoy, got 'hnsw'"),
    ],
)
def test_wrong_arguments(arguments, said):
    with pytest.raises(ValueError, match=said):
        Index(**arguments)


@pytest.mark.parametrize("k", [0, 201, True, 2.0])
def test_wrong_searches(k):
    index = Index(VECTORS)
    with pytest.raises(ValueError, match="k must be 1 to 200"):
        index.search(QUERIES, k)
    with pytest.raises(ValueError, match=r"shape \[Q, 8\] like the vectors, got \[17, 3\]"):
        index.search(QUERIES[:, :3])
