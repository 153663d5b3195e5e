"""A Keras model from a file, or one sentence that says why not."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any


def load(path: Path, command: str, compiled: bool = False) -> Any:
    """The model of a `.keras` file, or of the folder of a run that holds one.

    Args:
      path: file or folder.
      command: who asks, the name of a function of recops as well.
      compiled: whether the optimizer and its state come along.

    Raises: FileNotFoundError; ValueError for a file that is broken or needs another package.
    """
    file = path / "model.keras" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"{command}: there is no model at {file}")
    if not zipfile.is_zipfile(file):
        raise ValueError(f"{command}: {file} is no whole .keras file; save the model again")
    from recops._core.compat import keras

    try:
        return keras.models.load_model(file, compile=compiled)
    # Keras raises nearly any class for what a file holds.
    except Exception as error:
        raise ValueError(f"{command}: {file} cannot be loaded: {_why(error, command)}") from error


def _why(error: Exception, command: str) -> str:
    text = " ".join(str(error).split())
    if "safe_mode" in text:
        return (
            "it holds a Lambda layer, whose code is not run from a file; load it in Python with "
            f"safe_mode=False and call recops.{command}(model)"
        )
    if unknown := re.search(
        r"(?:Could not locate class|object of type|Unknown layer:) (\S+)", text
    ):
        return (
            f"its class {unknown.group(1).strip('.:')} is of a package that is not imported here; "
            f"load it in Python, where that package is, and call recops.{command}(model)"
        )
    return f"{type(error).__name__}: {text[:300]}"
