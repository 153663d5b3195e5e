"""The readers of files of a user, encoded or not, by name: each is (path, task=...) -> Dataset."""

from __future__ import annotations

from collections.abc import Callable

from recops.data.adult import adult
from recops.data.amazon import amazon
from recops.data.criteo import criteo
from recops.data.dataset import Dataset
from recops.data.libfm import libfm
from recops.data.stream import stream

READERS: dict[str, Callable[..., Dataset]] = {
    "adult": adult,
    "amazon": amazon,
    "criteo": criteo,
    "libfm": libfm,
    "stream": stream,
}
