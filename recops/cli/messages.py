"""What a user is told when a command fails, and the exit codes."""

from __future__ import annotations

import re
import sys

OK, WRONG, USER_ERROR, INTERRUPTED = 0, 1, 2, 130


def complain(message: str, code: int) -> int:
    """Say it on stderr in one line; the code."""
    prefix = "" if message.startswith("recops") else "recops: "
    print(f"{prefix}{message}", file=sys.stderr, flush=True)
    return code


def said(error: Exception) -> str:
    """The message of an error in one line, without what Keras and TensorFlow wrap around it."""
    text = str(error)
    if bold := re.search(r"\x1b\[1m(.*?)\x1b\[0m", text, re.S):
        text = bold.group(1)
    elif failed := re.search(r"assertion failed: (.*)", text):
        text = failed.group(1).replace("[", "").replace("]", "")
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return " ".join(f"{line};" if line[-1].isalnum() else line for line in lines).rstrip(";")


def user_errors() -> tuple[type[Exception], ...]:
    """The errors that say what a user can mend; any other is a defect of ours."""
    import tensorflow as tf

    from recops._core.library import BuildError
    from recops.data import DataError
    from recops.training.team import LostWorkerError

    # NotImplementedError: BackendError. InvalidArgumentError: an id beyond its table.
    # ImportError: an optional package that is not there.
    known = (
        ValueError,
        NotImplementedError,
        OSError,
        ImportError,
        DataError,
        BuildError,
        LostWorkerError,
    )
    return (*known, tf.errors.InvalidArgumentError)
