"""Files that are whole or not there: written beside their place, and renamed."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def writing(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """A path to write instead of `path`, whose place it takes when the block ends well.

    It has the suffix of `path`, by which a writer may tell the format. What another process
    killed while writing has left there is written over; after an error nothing is left.

    Args:
      path: the file; its folder is there.
      shared: whether other processes may write the same file at the same time.
    """
    token = f"-{secrets.token_hex(8)}" if shared else ""
    temporary = path.with_name(f".{path.stem}.writing{token}{path.suffix}")
    try:
        yield temporary
        # A name must not stand for bytes that a crash of the machine has lost.
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
