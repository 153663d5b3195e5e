"""The folder in which recops keeps what it has made or fetched: libraries, data sets."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "RECOPS_CACHE"


def cache_dir() -> Path:
    """RECOPS_CACHE, else recops in XDG_CACHE_HOME, else ~/.cache/recops; `~` is the home folder.

    Raises: OSError where there is no home folder to name.
    """
    named, base = os.environ.get(VARIABLE), os.environ.get("XDG_CACHE_HOME")
    folder = Path(named) if named else Path(base or "~/.cache") / "recops"
    try:
        return folder.expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(
            f"there is no home folder for {folder}; set {VARIABLE} to a folder"
        ) from error
