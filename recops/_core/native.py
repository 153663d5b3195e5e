"""The native (C++) library: whether it is here, and if not, the sentence that says why."""

from __future__ import annotations

import os


def why_not() -> str | None:
    """None when the library can be called, else the reason and its remedy."""
    if os.environ.get("RECOPS_CPP") == "0":
        return "RECOPS_CPP=0 switches the native library off; unset it to switch it on"
    return "this version of recops has no native library yet; use backend 'xla' or 'auto'"
