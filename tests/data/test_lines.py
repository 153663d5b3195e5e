"""Lines of text files: numbers, blanks, gzip, and the account of those that do not fit."""

import gzip

import numpy as np
import pytest

from recops.data import DataError, lines
from recops.data.lines import Lines


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(path, width=2, separator=b","):
    opened = Lines("some", path)
    blocks = list(opened.table(width, separator))
    opened.close()
    numbers = [int(n) for block in blocks for n in block.numbers]
    rows = [row for block in blocks for row in zip(*block.columns)]
    return numbers, rows


@pytest.mark.parametrize("block_bytes", [3, 7, 1 << 20])
def test_lines_whatever_the_block(block_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "_BLOCK_BYTES", block_bytes)
    path = write(tmp_path / "a", b"\xef\xbb\xbf1,2\r\n\r\n3,4\n  \n5,\n,6")
    assert read(path) == ([1, 3, 5, 6], [(b"1", b"2"), (b"3", b"4"), (b"5", b""), (b"", b"6")])


def test_gzip_is_told_by_its_content(tmp_path):
    path = write(tmp_path / "plain.txt", gzip.compress(b"1,2\n3,4\n"))
    assert read(path)[1] == [(b"1", b"2"), (b"3", b"4")]
    write(path, path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"some: .*plain\.txt is damaged or cut off"):
        read(path)


def test_up_to_a_hundredth_is_left_out_and_said(tmp_path, capsys):
    text = ["1,2"] * 200
    text[6], text[150] = "1", "1,2,3"
    path = write(tmp_path / "a", "\n".join(text))
    assert len(read(path)[1]) == 198
    assert capsys.readouterr().err == (
        f"recops: some: {path}: 2 of 200 lines left out: line 7: expected 2 columns, got 1; "
        f"line 151: expected 2 columns, got 3\n"
    )


def test_past_a_hundredth_it_is_an_error(tmp_path, capsys):
    text = ["1,2"] * 200
    for at in (3, 20, 30):
        text[at] = "1"
    with pytest.raises(DataError, match=r"3 of 200 lines do not fit the format: line 4: expected"):
        read(write(tmp_path / "a", "\n".join(text)))
    assert capsys.readouterr().err == ""


def test_the_first_five_are_named(tmp_path):
    with pytest.raises(DataError, match=r"line 5: [^;]*; and 4 more") as error:
        read(write(tmp_path / "a", "x\n" * 9 + "1,2\n"))
    assert "line 6" not in str(error.value)


def test_another_kind_of_file_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "_BLOCK_BYTES", 64)
    path = write(tmp_path / "a", "x\n" * 10_000)
    with pytest.raises(DataError, match=r"\b3\d of 3\d lines do not fit"):
        read(path)
    write(path, b"\0" * 1000)
    with pytest.raises(DataError, match="line 1 has no end; this is no text file"):
        read(path)


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_file(text, tmp_path):
    with pytest.raises(DataError, match=r"some: .*a is empty"):
        read(write(tmp_path / "a", text))


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(DataError, match="nope: no such file"):
        Lines("some", tmp_path / "nope")
    with pytest.raises(DataError, match="is a folder; give the path of a file"):
        Lines("some", tmp_path)


def test_numbers_and_choices(tmp_path):
    opened = Lines("some", write(tmp_path / "a", "1,y\n,n\n-2.5e1,maybe\nfew,y\ninf,no\n7,y\n"))
    (block,) = opened.table(2, b",")
    values, fit = opened.numbers(block, {"age": 0})
    np.testing.assert_array_equal(values[:3, 0], [1, np.nan, -25])
    assert fit.tolist() == [True, True, True, False, False, True]
    chosen = opened.choices(block, 1, "answer", {b"y": 1, b"n": 0})
    assert chosen.tolist() == [1, 0, -1, 1, -1, 1]
    # A line counts once, with what was found first.
    assert opened.rejected == {
        4: "expected a number as age, got 'few'",
        5: "expected a number as age, got 'inf'",
        3: "expected the answer n or y, got 'maybe'",
    }
    kept = block.keep(fit & (chosen >= 0))
    assert kept.numbers.tolist() == [1, 2, 6]
    assert kept.columns == [[b"1", b"", b"7"], [b"y", b"n", b"y"]]
