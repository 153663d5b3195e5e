"""Files that are whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from recops._core.whole import writing


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_takes_its_place_when_it_is_whole(tmp_path: Path, shared: bool) -> None:
    path = tmp_path / "model.keras"
    path.write_text("old")
    with writing(path, shared=shared) as file:
        assert file.suffix == ".keras"
        assert file.parent == tmp_path
        file.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    path.write_text("old")

    def fill_the_disk() -> None:
        with writing(path) as file:
            file.write_text("ha")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        fill_the_disk()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_writers_of_a_shared_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    with writing(path, shared=True) as one, writing(path, shared=True) as two:
        one.write_text("1")
        two.write_text("2")
    assert path.read_text() == "1"
