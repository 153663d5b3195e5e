"""Answers of a trained retrieval model: items for a user of its data, or like another item."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from recops._core.compat import keras
from recops.retrieval import Index
from recops.training.loop import INDEX
from recops.training.named import dataset
from recops.training.runs import recorded

_MODEL = "model.keras"
Found = list[tuple[int, float]]


def for_user(run: str | os.PathLike[str], user: int, k: int = 10, unseen: bool = False) -> Found:
    """The k best items for a user of the data set that a run was trained on, as of its end.

    Args:
      run: folder of `recops train YoutubeDNNRetrieval`.
      user: as the data set names it.
      k: 1 or more.
      unseen: leave out all that the user had; there may then be fewer than k.

    Returns: (item, score) as the data set names items, best first.

    Raises: ValueError when the folder has no such run, or its data no such user.
    """
    folder = Path(run).expanduser()
    if folder.is_file():
        raise ValueError(
            f"query: a user needs the model beside the index, and {folder} is a file; give the "
            f"folder of the run"
        )
    index = _index(folder)
    options = recorded(folder)["options"]
    if not (folder / _MODEL).exists():
        raise ValueError(f"query: {folder} has no {_MODEL}; finish its training by --resume")
    data = dataset(options["data"], "retrieval")
    if data.serving is None:
        raise ValueError(f"query: the data {options['data']!r} has no users to ask for")
    rows = np.flatnonzero(data.serving.groups == user)
    if not len(rows):
        known = data.serving.groups
        raise ValueError(
            f"query: {options['data']} has no user {user}; its {len(known)} users are among "
            f"{known.min()} to {known.max()}"
        )
    model = keras.models.load_model(folder / _MODEL).user_model
    inputs = {name: data.serving.inputs[name][rows] for name in model.input}
    seen = data.serving.inputs.get(f"seen_{data.item}")
    named = data.values.get(data.item, np.arange(len(index) + 1))
    had = [] if seen is None or not unseen else named[seen[rows[0]]]
    return _best(index, model.predict(inputs, verbose=0), k, had)


def like_item(where: str | os.PathLike[str], item: int, k: int = 10) -> Found:
    """The k items whose vectors fit best to that of an item, itself left out.

    Args:
      where: folder of a run, or its index file.
      item: as the index names it.
      k: 1 or more.

    Returns: (item, score), best first.

    Raises: ValueError when there is no index, or the item is not in it.
    """
    path = Path(where).expanduser()
    index = _index(path)
    place = np.flatnonzero(index.ids == item)
    if not len(place):
        raise ValueError(f"query: {path} has no item {item} among its {len(index)} items")
    # Long vectors are those of popular items, which would be next to everything.
    alike = Index(index.vectors, index.ids, "cosine")
    return _best(alike, index.vectors[place[:1]], k, [item])


def _index(path: Path) -> Index:
    file = path / INDEX if path.is_dir() else path
    if not file.exists():
        raise ValueError(
            f"query: {path} has no index ({INDEX}); make one by recops train YoutubeDNNRetrieval"
        )
    return Index.load(file)


def _best(index: Index, vector: np.ndarray, k: int, without: object) -> Found:
    """The k best that are not among `without`."""
    left_out = set(np.asarray(without, np.int64).tolist())
    scores, ids = index.search(vector, min(len(index), k + len(left_out)))
    pairs = zip(ids[0].tolist(), scores[0].tolist())
    return [(item, score) for item, score in pairs if item not in left_out and item >= 0][:k]
