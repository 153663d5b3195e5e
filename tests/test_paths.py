"""`~` is the home folder wherever a path is taken, and one folder is the cache of everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recops import data, retrieval
from recops._core import cache, library
from recops.cli import parser
from recops.data import sources


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RECOPS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "value", "folder"),
    [
        ("RECOPS_CACHE", "~/kept", "kept"),
        ("XDG_CACHE_HOME", "~/all", "all/recops"),
        ("RECOPS_CACHE", "", ".cache/recops"),
    ],
)
def test_one_cache(name: str, value: str, folder: str, home: Path, monkeypatch) -> None:
    monkeypatch.setenv(name, value)
    assert sources.cache_dir() == home / folder
    assert library.native_cache() == home / folder / "native"


def test_where_there_is_no_home(home: Path, monkeypatch) -> None:
    def unknown(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", unknown)
    with pytest.raises(OSError, match=r"no home folder for .*; set RECOPS_CACHE to a folder"):
        cache.cache_dir()
    assert library.find() is None


def test_files_that_are_written_and_read(home: Path) -> None:
    index = retrieval.Index(np.eye(3, dtype=np.float32))
    index.save("~/items.index")
    assert (home / "items.index").is_file()
    assert len(retrieval.Index.load("~/items.index")) == 3
    encoder = data.Encoder().fit({"color": ["red", "blue", "red"]})
    encoder.save("~/encoder.json")
    assert (home / "encoder.json").is_file()
    read = data.Encoder.load("~/encoder.json")
    assert read.vocabulary("color") == encoder.vocabulary("color")
    assert parser.path("~/run") == home / "run"
