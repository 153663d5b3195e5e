"""Nearest items of query vectors: exact search, or faiss and annoy behind the same calls."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from recops._core import checks
from recops._core.whole import writing

METRICS = ("inner_product", "l2", "cosine")
ENGINES = ("exact", "faiss", "annoy")

# Scores of one block of queries, so that a million items take some hundred MB, not all memory.
_BLOCK_SCORES = 2**25
_ANNOY_TREES = 50
_ANNOY_NAMES = {"inner_product": "dot", "l2": "euclidean", "cosine": "angular"}

_Search = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


class Index:
    """Items by vector, searched for those nearest to a query.

    Args:
      vectors: [N, D] floats, kept as float32; none may be NaN or infinite.
      ids: [N] integers to return for the items; None is 0..N-1. For a table of a model whose row 0
        is padding, give `table[1:]` and `np.arange(1, len(table))`.
      metric: "inner_product" and "cosine" (larger is better) or "l2" (squared distance, smaller is
        better).
      engine: "exact" compares with every item; "faiss" does so in C++ (faiss-cpu); "annoy" finds
        most of the best ones by trees, in time that hardly grows with N.

    Defaults: metric="inner_product", engine="exact".

    Raises: ValueError for wrong shapes, values or names; ImportError that names the extra to
    install where the engine's package is missing.

    Cost: `exact` 2 N D flops a query, in blocks of queries.

    Example:
      >>> index = Index([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], ids=[10, 11, 12])
      >>> scores, ids = index.search([[0.0, 2.0]], k=2)
      >>> ids.tolist(), [round(float(s), 2) for s in scores[0]]
      ([[11, 12]], [2.0, 1.6])
    """

    def __init__(
        self,
        vectors: Any,
        ids: Any = None,
        metric: str = "inner_product",
        engine: str = "exact",
    ) -> None:
        self.metric = checks.choice("Index", "metric", metric, METRICS)
        self.engine = checks.choice("Index", "engine", engine, ENGINES)
        self.vectors = _matrix("vectors", vectors)
        if not len(self.vectors):
            raise ValueError(f"Index: vectors must hold at least one item, got {vectors!r}")
        self.ids = np.arange(len(self.vectors)) if ids is None else np.asarray(ids)
        if self.ids.shape != (len(self.vectors),) or self.ids.dtype.kind not in "iu":
            raise ValueError(
                f"Index: ids must be [{len(self.vectors)}] integers, one a vector, got dtype "
                f"{self.ids.dtype} with shape {list(self.ids.shape)}"
            )
        if len(beyond := self.ids[self.ids > np.iinfo(np.int64).max]):
            raise ValueError(f"Index: ids must fit int64, got {beyond[0]}")
        self.ids = self.ids.astype(np.int64)
        self._search = _SEARCHES[engine](_scaled(self.vectors, metric), metric)

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: Any, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The k best items of each query, best first.

        Args:
          queries: [Q, D] floats.
          k: 1 to the number of items.

        Returns: scores [Q, k] float32 and ids [Q, k] int64. Where annoy finds fewer than k, ids
        end with -1 and scores with NaN.
        """
        queries = _matrix("queries", queries)
        if queries.shape[1] != self.vectors.shape[1]:
            raise ValueError(
                f"Index: queries must have shape [Q, {self.vectors.shape[1]}] like the vectors, "
                f"got {list(queries.shape)}"
            )
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= len(self):
            raise ValueError(f"Index: k must be 1 to {len(self)}, the number of items, got {k!r}")
        scores, places = self._search(_scaled(queries, self.metric), int(k))
        return scores.astype(np.float32), np.where(places < 0, -1, self.ids[places])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index to one file; an engine's own structure is made again when it is read."""
        with writing(Path(path).expanduser()) as file, file.open("wb") as f:
            np.savez(
                f,
                vectors=self.vectors,
                ids=self.ids,
                metric=np.array(self.metric),
                engine=np.array(self.engine),
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str], engine: str | None = None) -> Index:
        """Read what `save` wrote, for its engine or another one.

        Raises: FileNotFoundError; ValueError when the file is no index.
        """
        try:
            with np.load(Path(path).expanduser(), allow_pickle=False) as kept:
                parts = {name: kept[name] for name in ("vectors", "ids", "metric", "engine")}
        except (FileNotFoundError, PermissionError):
            raise
        # NumPy and zipfile answer bytes that are no index with errors of many kinds.
        except Exception as error:
            raise ValueError(f"Index: {path} is no saved index: {error}") from None
        return cls(
            parts["vectors"],
            parts["ids"],
            str(parts["metric"]),
            engine or str(parts["engine"]),
        )


def _matrix(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise ValueError(
            f"Index: {name} must be floats [N, D], got dtype {array.dtype} with shape "
            f"{list(array.shape)}"
        )
    array = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise ValueError(f"Index: {name} must be finite, row {row} is not")
    return array


def _scaled(vectors: np.ndarray, metric: str) -> np.ndarray:
    """Unit vectors for cosine; a vector of zeros stays and is like nothing."""
    if metric != "cosine":
        return vectors
    # The square of a float32 may be too large or small for one.
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)


def _exact(vectors: np.ndarray, metric: str) -> _Search:
    block = max(1, _BLOCK_SCORES // len(vectors))
    if metric == "l2":
        # The expanded square loses the digits of near neighbours that lie far from the origin.
        middle = vectors.mean(axis=0, dtype=np.float64)
        vectors = vectors - middle
        squares = np.einsum("nd,nd->n", vectors, vectors)

    def best_of(queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        if metric == "l2":
            queries = queries - middle
            far = squares - 2 * (queries @ vectors.T)
        else:
            far = -(queries @ vectors.T)
        best = np.argpartition(far, k - 1, axis=1)[:, :k]
        # Of equal items the first one comes first.
        best.sort(axis=1)
        far = np.take_along_axis(far, best, axis=1)
        if metric == "l2":
            apart = queries[:, None] - vectors[best]
            far = np.einsum("qkd,qkd->qk", apart, apart)
        order = np.argsort(far, axis=1, kind="stable")
        far = np.take_along_axis(far, order, axis=1)
        return far if metric == "l2" else -far, np.take_along_axis(best, order, axis=1)

    def search(queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        places = np.empty((len(queries), k), np.int64)
        scores = np.empty((len(queries), k), np.float32)
        for start in range(0, len(queries), block):
            here = slice(start, start + block)
            scores[here], places[here] = best_of(queries[here], k)
        return scores, places

    return search


def _faiss(vectors: np.ndarray, metric: str) -> _Search:
    faiss = _package("faiss", "faiss-cpu")
    kind = faiss.IndexFlatL2 if metric == "l2" else faiss.IndexFlatIP
    index = kind(vectors.shape[1])
    index.add(vectors)
    return index.search


def _annoy(vectors: np.ndarray, metric: str) -> _Search:
    annoy = _package("annoy", "annoy")
    index = annoy.AnnoyIndex(vectors.shape[1], _ANNOY_NAMES[metric])
    index.set_seed(1)
    for place, vector in enumerate(vectors):
        index.add_item(place, vector)
    index.build(_ANNOY_TREES)

    def search(queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        places = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), np.nan, np.float32)
        for row, query in enumerate(queries):
            found, distances = index.get_nns_by_vector(query, k, include_distances=True)
            places[row, : len(found)] = found
            scores[row, : len(found)] = _ANNOY_SCORES[metric](np.array(distances))
        return scores, places

    return search


# What annoy calls distances, in the scores of `Index`; an angular one is that of unit vectors.
_ANNOY_SCORES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "inner_product": lambda d: d,
    "l2": np.square,
    "cosine": lambda d: 1 - np.square(d) / 2,
}
_SEARCHES: dict[str, Callable[[np.ndarray, str], _Search]] = {
    "exact": _exact,
    "faiss": _faiss,
    "annoy": _annoy,
}


def _package(module: str, package: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise ImportError(
            f"Index: engine {module!r} needs the package {package}: pip install 'recops[ann]'"
        ) from None
