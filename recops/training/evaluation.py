"""How good a model is on a data set: figures by task, and popularity to compare them with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from recops import metrics
from recops._core import checks
from recops.data import Dataset, Split
from recops.data.streaming import Stream
from recops.training.streamed import Streamed
from recops.training.team import predictions

KS = (10, 50)

_PREDICT_BATCH = 4096
# So many predictions, labels and groups are some 1.5 GB, and sorting them as much again.
EXACT_ROWS = 50_000_000
# Scores of one block of lists, so that a million items take some hundred MB, not all memory.
_BLOCK_SCORES = 2**24
_Data = TypeVar("_Data", Dataset, Split)


@dataclass(frozen=True)
class Judgement:
    """How the predictions of a task are judged.

    `criterion` names the figure that early stopping watches; `figures` takes (model, data, part)
    and `baseline`, where there is one, (data, part).
    """

    criterion: str
    figures: Callable[[Any, Dataset, Split], dict[str, float]]
    baseline: Callable[[Dataset, Split], dict[str, float]] | None = None


def judgement(data: Dataset) -> Judgement:
    """How the task of a data set is judged."""
    return _JUDGEMENTS[checks.choice("Dataset", "task", data.task, tuple(_JUDGEMENTS))]


def scores(model: Any, part: Split) -> dict[str, float]:
    """Exact auc, logloss and gauc of a model's predictions.

    Of a stream of more than `EXACT_ROWS` they are those of `Streamed`, shard by shard.
    """
    if isinstance(part, Stream) and len(part) > EXACT_ROWS:
        found = Streamed()
        for some in part.by_shard():
            found.add(some.labels, _predicted(model, some), some.groups)
        return found.figures()
    predicted = _predicted(model, part)
    return {
        "auc": metrics.auc(part.labels, predicted),
        "logloss": metrics.log_loss(part.labels, predicted),
        "gauc": metrics.gauc(part.labels, predicted, part.groups),
    }


def recall(model: Any, data: Dataset, part: Split) -> dict[str, float]:
    """Hit rate and NDCG at 10 and 50 of each row's item among all items that are not seen.

    An item that train does not have (id 0) is a miss.

    Args:
      model: with `user_model` and `item_embeddings()`.
    """
    vectors = _predicted(model.user_model, part)
    items = _finite(np.asarray(model.item_embeddings(), np.float32))
    return _recall(data, part, lambda rows: vectors[rows] @ items.T)


def recall_of_popularity(data: Dataset, part: Split) -> dict[str, float]:
    """The figures of `recall` where every user is offered what is most frequent in train."""
    counts = _counts(data)
    return _recall(data, part, lambda rows: np.tile(counts, (len(part.groups[rows]), 1)))


def leave_one_out(model: Any, data: Dataset, part: Split) -> dict[str, float]:
    """Hit rate and NDCG at 10 of the item left out among its sampled negatives."""
    return _left_out(part, _predicted(model, part))


def leave_one_out_of_popularity(data: Dataset, part: Split) -> dict[str, float]:
    """The figures of `leave_one_out` where candidates are ranked by frequency in train."""
    return _left_out(part, _counts(data)[part.inputs[data.item]])


def next_click(model: Any, data: Dataset, part: Split) -> dict[str, float]:
    """Hit rate and NDCG at 10 and 50 of the next item among all that are not seen.

    Args:
      model: of "source" and "target", whose first step of logits [B, T, V + 2] is of `data.item`
        and, at the end, of the id that starts a target.
    """
    # The first step sees the start alone.
    inputs = {"source": part.inputs["source"], "target": part.inputs["target"][:, :1]}
    logits = _predicted(model, replace(part, inputs=inputs))[:, 0, :-1]
    return _recall(data, part, lambda rows: logits[rows])


def read_by(model: Any, data: _Data) -> _Data:
    """The data with the inputs that a model takes alone: Keras warns of others at each call."""
    try:
        inputs = model.input
    except (AttributeError, RuntimeError, ValueError):
        # A model of a class of its own says nowhere what it reads.
        return data
    return data.select(inputs) if isinstance(inputs, dict) else data


def _predicted(model: Any, part: Split) -> np.ndarray:
    return _finite(predictions(model, read_by(model, part).batches(_PREDICT_BATCH)))


def _finite(values: np.ndarray) -> np.ndarray:
    lost = np.count_nonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
    if lost:
        raise ValueError(
            f"train: {lost} of {len(values)} predictions are not finite: the training has "
            f"diverged; lower the learning rate or use float32"
        )
    return values


def _counts(data: Dataset) -> np.ndarray:
    """[V + 1] how often each item is a positive in train."""
    size = next(f.vocabulary_size for f in data.features if f.name == data.item)  # type: ignore[union-attr]
    chosen = data.train.inputs[data.item][data.train.labels[:, 0] > 0]
    return np.bincount(chosen, minlength=size + 1).astype(np.float32)


def _recall(data: Dataset, part: Split, score: Callable[[slice], np.ndarray]) -> dict[str, float]:
    """Figures of the lists whose scores of all items, [rows, V + 1], `score` gives by rows."""
    wanted = part.inputs[data.item]
    seen = part.inputs.get(f"seen_{data.item}")
    width = score(slice(0, 1)).shape[1]
    block = max(1, _BLOCK_SCORES // width)
    totals: dict[str, float] = {}
    for start in range(0, len(part), block):
        rows = slice(start, start + block)
        good = np.array(score(rows), np.float64)
        # Padding, which an unknown item has for an id, and what is seen come behind all others.
        good[:, 0] = last = good.min() - 1
        if seen is not None:
            np.put_along_axis(good, seen[rows].astype(np.int64), last, axis=1)
        labels = np.zeros(good.shape, np.int8)
        labels[np.arange(len(good)), wanted[rows]] = 1
        for name, value in _at(labels, good, KS).items():
            totals[name] = totals.get(name, 0.0) + value * len(good) / len(part)
    return totals


def _left_out(part: Split, predictions: np.ndarray) -> dict[str, float]:
    size = int(np.count_nonzero(part.groups == part.groups[0]))
    groups = part.groups[: len(part) // size * size].reshape(-1, size)
    if len(part) % size or (groups != groups[:, :1]).any():
        raise ValueError(
            f"leave_one_out: the {len(part)} rows must be groups of one size that stand together"
        )
    return _at(part.labels.reshape(-1, size), np.reshape(predictions, (-1, size)), KS[:1])


def _at(labels: np.ndarray, predictions: np.ndarray, ks: Sequence[int]) -> dict[str, float]:
    return {
        # A list of fewer than k is among its k best as a whole.
        f"{name}@{k}": of(labels, predictions, min(k, labels.shape[1]))
        for k in ks
        for name, of in (("hit_rate", metrics.hit_rate_at_k), ("ndcg", metrics.ndcg_at_k))
    }


_JUDGEMENTS = {
    "ranking": Judgement("auc", lambda model, _, part: scores(model, part)),
    "retrieval": Judgement(f"hit_rate@{KS[0]}", recall, recall_of_popularity),
    "next_click": Judgement(f"hit_rate@{KS[0]}", next_click, recall_of_popularity),
    "leave_one_out": Judgement(f"hit_rate@{KS[0]}", leave_one_out, leave_one_out_of_popularity),
}
