"""Where data files come from, and what is said and left behind when they do not."""

import hashlib
import http.server
import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import zipfile
from pathlib import Path

import pytest

from recops.data import sources
from recops.data.sources import DataError, Recipe, Source

FILES = {"a.txt": b"alpha", "b.txt": b"beta"}
LAYOUTS = (("a.txt", "b.txt"), ("ab.one",))


def join(files):
    return b"|".join(files[name] for name in sorted(files))


def zip_of(files, prefix=""):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(prefix + name, data)
    return buffer.getvalue()


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def recipe(*downloads):
    return Recipe("toy", LAYOUTS, join, hashlib.sha256(b"alpha|beta").hexdigest(), downloads)


class Counted:
    """A download that counts its calls, and returns or raises what it is given."""

    def __init__(self, answer, name="server"):
        self.answer, self.calls = answer, 0
        self.source = Source(name, self.read)

    def read(self):
        self.calls += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    monkeypatch.delenv("RECOPS_DATA", raising=False)
    monkeypatch.setenv("RECOPS_CACHE", str(tmp_path / "cache"))


def cached_files(tmp_path):
    folder = tmp_path / "cache"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_cache_dir_prefers_its_own_variable_then_xdg_then_home(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("RECOPS_CACHE", "/own")
    assert sources.cache_dir() == Path("/own")
    monkeypatch.delenv("RECOPS_CACHE")
    assert sources.cache_dir() == Path("/xdg/recops")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert sources.cache_dir() == Path.home() / ".cache" / "recops"


@pytest.mark.parametrize("below", ["", "toy"])
def test_find_reads_a_folder_and_the_folder_below(tmp_path, below):
    write(tmp_path / "data" / below, FILES)
    assert sources.find(tmp_path / "data", recipe()) == FILES


@pytest.mark.parametrize("prefix", ["", "toy/", "deep/down/toy/"])
def test_find_reads_a_zip_named_or_in_the_folder(tmp_path, prefix):
    archive = write(tmp_path / "data", {"toy.zip": zip_of(FILES, prefix)}) / "toy.zip"
    assert sources.find(archive, recipe()) == FILES
    assert sources.find(archive.parent, recipe()) == FILES


def test_of_two_files_of_one_name_in_a_zip_the_shallower_is_read(tmp_path):
    both = {**FILES, "deep/a.txt": b"another"}
    for order in (both, dict(reversed(both.items()))):
        archive = write(tmp_path, {"toy.zip": zip_of(order)}) / "toy.zip"
        assert sources.find(archive, recipe()) == FILES


def test_find_takes_the_second_layout(tmp_path):
    assert sources.find(write(tmp_path / "d", {"ab.one": b"x"}), recipe()) == {"ab.one": b"x"}


def test_find_says_what_is_wrong_with_a_place(tmp_path):
    for folder, files, message in (
        ("empty", {}, "the folder is empty"),
        ("half", {"a.txt": b""}, "holds a.txt but lacks b.txt"),
        ("other", {"c.txt": b""}, "holds none of a.txt, b.txt or ab.one"),
    ):
        with pytest.raises(DataError, match=message):
            sources.find(write(tmp_path / folder, files), recipe())
    with pytest.raises(DataError, match="no such file or folder"):
        sources.find(tmp_path / "nowhere", recipe())


def test_find_refuses_damaged_archives(tmp_path):
    whole = zip_of({**FILES, "a.txt": os.urandom(5000)})
    damaged = bytearray(whole)
    damaged[200:300] = bytes(100)
    for name, data in (
        ("truncated.zip", whole[: len(whole) // 2]),
        ("damaged.zip", bytes(damaged)),
        ("text.zip", b"not an archive"),
        ("empty.zip", b""),
    ):
        path = write(tmp_path, {name: data}) / name
        with pytest.raises(DataError, match=rf"{name} is not a readable zip \(truncated or"):
            sources.find(path, recipe())


def test_data_variable_is_used_and_nothing_is_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("RECOPS_DATA", str(write(tmp_path / "data", FILES)))
    server = Counted(FILES)
    assert sources.obtain(recipe(server.source)) == b"alpha|beta"
    assert server.calls == 0
    assert cached_files(tmp_path) == []


@pytest.mark.parametrize("files", [{}, {"a.txt": b"alpha"}, {"a.txt": b"alpha", "b.txt": b"bet"}])
def test_unusable_data_variable_is_an_error_and_no_fallback(tmp_path, monkeypatch, files):
    folder = write(tmp_path / "data", files)
    monkeypatch.setenv("RECOPS_DATA", str(folder))
    server = Counted(FILES)
    with pytest.raises(DataError) as caught:
        sources.obtain(recipe(server.source))
    assert f"RECOPS_DATA={folder}" in str(caught.value)
    assert "unset it" in str(caught.value)
    assert server.calls == 0


def test_download_is_cached_and_read_once(tmp_path):
    server = Counted(FILES)
    for _ in range(2):
        assert sources.obtain(recipe(server.source)) == b"alpha|beta"
    assert server.calls == 1
    assert len(cached_files(tmp_path)) == 1


def test_damaged_cache_is_fetched_again_and_repaired(tmp_path):
    server = Counted(FILES)
    sources.obtain(recipe(server.source))
    (cached,) = (tmp_path / "cache").iterdir()
    cached.write_bytes(b"alpha|bet")
    assert sources.obtain(recipe(server.source)) == b"alpha|beta"
    assert server.calls == 2
    assert cached.read_bytes() == b"alpha|beta"


def test_damaged_cache_is_not_trusted_when_nothing_else_answers(tmp_path):
    sources.obtain(recipe(Counted(FILES).source))
    (cached,) = (tmp_path / "cache").iterdir()
    cached.write_bytes(b"alpha|bet")
    with pytest.raises(DataError, match="the content is not the expected one"):
        sources.obtain(recipe(Counted(DataError("down")).source))


def test_a_download_with_other_content_is_passed_over(tmp_path):
    wrong, right = Counted({"a.txt": b"x", "b.txt": b"y"}, "wrong"), Counted(FILES, "right")
    assert sources.obtain(recipe(wrong.source, right.source)) == b"alpha|beta"
    assert (wrong.calls, right.calls) == (1, 1)


def test_one_error_names_every_source_and_reason_and_leaves_nothing(tmp_path):
    first, second = Counted(DataError("no route"), "one"), Counted({"ab.one": b"x"}, "two")
    with pytest.raises(DataError) as caught:
        sources.obtain(recipe(first.source, second.source))
    message = str(caught.value)
    positions = [
        message.index(part)
        for part in ("RECOPS_DATA: not set", "cache ", "one: no route", "two: the content is not")
    ]
    assert positions == sorted(positions)
    assert cached_files(tmp_path) == []


def test_an_unwritable_cache_costs_a_line_and_not_the_data(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RECOPS_CACHE", str(write(tmp_path, {"file": b""}) / "file" / "cache"))
    assert sources.obtain(recipe(Counted(FILES).source)) == b"alpha|beta"
    assert "could not cache" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_a_kill_before_the_rename_leaves_no_cached_file(tmp_path):
    path = tmp_path / "cache" / "toy.json"
    script = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from recops.data import sources
        os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        sources._keep(Path({str(path)!r}), b"alpha|beta")
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not path.exists()
    assert sources.obtain(recipe(Counted(FILES).source)) == b"alpha|beta"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.server.bodies.get(self.path)
        self.send_response(200 if body is not None else 404)
        declared = len(body or b"") + (100 if self.path == "/short.zip" else 0)
        self.send_header("Content-Length", str(declared))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        archive = zip_of(FILES, "toy/")
        running.bodies = {"/toy.zip": archive, "/short.zip": archive, "/page.zip": b"<html>"}
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_download_reads_a_zip_and_says_so(server, capsys):
    source = sources.download(f"{server}/toy.zip", LAYOUTS, "1 kB")
    assert source.read() == FILES
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"recops: downloading {server}/toy.zip (1 kB)"


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("absent.zip", "404"),
        ("short.zip", "broke off at|IncompleteRead"),
        ("page.zip", "not a readable zip"),
    ],
)
def test_download_that_fails_is_a_data_error(server, page, reason):
    with pytest.raises(DataError, match=reason):
        sources.download(f"{server}/{page}", LAYOUTS, "1 kB").read()


def test_download_from_a_closed_port_is_a_data_error():
    with pytest.raises(DataError, match="refused"):
        sources.download("http://127.0.0.1:9/toy.zip", LAYOUTS, "1 kB").read()


def fake_pip(monkeypatch, archive):
    def put(requirement, folder):
        Path(folder, "toy-1.0-py3-none-any.whl").write_bytes(archive)

    monkeypatch.setattr(sources, "_pip_download", put)


def test_wheel_files_are_read_and_proved(monkeypatch):
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    fake_pip(monkeypatch, zip_of(FILES, "toy/example/"))
    assert sources.wheel("toy==1.0", hashes, "1 kB").read() == FILES
    fake_pip(monkeypatch, zip_of({**FILES, "b.txt": b"other"}, "toy/example/"))
    with pytest.raises(DataError, match=r"b\.txt: the content is not the expected one"):
        sources.wheel("toy==1.0", hashes, "1 kB").read()


def test_wheel_repeats_what_pip_says(monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(DataError, match=r"pip download exited with 1: ERROR: No matching dist"):
        sources.wheel("recbole==1.2.1", {"a.txt": ""}, "1 kB").read()
