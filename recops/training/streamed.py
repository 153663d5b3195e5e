"""AUC, GAUC and log loss of more rows than can be sorted together."""

from __future__ import annotations

import numpy as np

from recops import metrics

# A probability as float32 without its last bits: buckets of a 8192th of its size.
_DROPPED = 10
_BUCKETS = (np.float32(1).view(np.uint32).item() >> _DROPPED) + 1
_MIX = np.uint64(0x9E3779B97F4A7C15)


class Streamed:
    """Figures of rows that come in parts, in memory that does not grow.

    The log loss is exact. For the AUC, predictions that differ by less than a 8192th of their size
    are equal. The GAUC is that of a random sample of groups, each with all its rows, as large as
    `capacity` allows; it is left out where no group fits. Where all rows are of one group it is the
    AUC.

    Args:
      capacity: rows kept for the GAUC.
    """

    def __init__(self, capacity: int = 20_000_000) -> None:
        self._capacity = capacity
        self._counts = np.zeros((2, _BUCKETS), np.int64)
        self._loss, self._rows = 0.0, 0
        self._kept = [np.zeros((0, 2), np.float32)]
        self._groups = [np.zeros(0, np.int64)]
        self._limit = np.uint64(2**64 - 1)
        self._ends: tuple[int, int] | None = None

    def add(self, labels: np.ndarray, predictions: np.ndarray, groups: np.ndarray) -> None:
        """Further rows: labels 0 or 1, probabilities and groups, each [N] or [N, 1]."""
        groups = groups.reshape(-1)
        pairs = np.stack([labels.reshape(-1), predictions.reshape(-1)], 1).astype(np.float32)
        self._loss += metrics.log_loss(pairs[:, 0], pairs[:, 1]) * len(pairs)
        self._rows += len(pairs)
        bucket = np.ascontiguousarray(pairs[:, 1]).view(np.uint32) >> _DROPPED
        for label in (0, 1):
            of = bucket[pairs[:, 0] == label]
            self._counts[label] += np.bincount(of, minlength=_BUCKETS)
        low, high = int(groups.min()), int(groups.max())
        had = self._ends or (low, high)
        self._ends = min(low, had[0]), max(high, had[1])
        kept = _mixed(groups) <= self._limit
        self._kept.append(pairs[kept])
        self._groups.append(groups[kept])
        while sum(map(len, self._groups)) > self._capacity and self._limit:
            self._limit >>= np.uint64(1)
            chosen = [_mixed(part) <= self._limit for part in self._groups]
            self._kept = [part[rows] for part, rows in zip(self._kept, chosen)]
            self._groups = [part[rows] for part, rows in zip(self._groups, chosen)]

    def figures(self) -> dict[str, float]:
        """auc, logloss and gauc of all rows so far."""
        others, clicks = self._counts
        below = np.cumsum(others) - others
        pairs = float(clicks.sum()) * float(others.sum())
        if not pairs:
            raise ValueError(f"auc: needs both a 0 and a 1 among the labels, got {self._rows} rows")
        area = float(np.sum(clicks * (below + others / 2)) / pairs)
        found = {"auc": area, "logloss": self._loss / self._rows}
        if self._ends is not None and self._ends[0] == self._ends[1]:
            found["gauc"] = area
        elif any(map(len, self._groups)):
            rows = np.concatenate(self._kept)
            found["gauc"] = metrics.gauc(rows[:, 0], rows[:, 1], np.concatenate(self._groups))
        return found


def _mixed(groups: np.ndarray) -> np.ndarray:
    """A number of 64 bits for each group that looks drawn (the last steps of SplitMix64)."""
    x = groups.astype(np.uint64) + _MIX
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
