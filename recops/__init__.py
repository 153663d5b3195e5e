"""recops: fast, exact building blocks of recommender models for TensorFlow and Keras."""

import sys as _sys
from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from recops._public import *  # noqa: F403
    from recops._public import __all__ as __all__


def _is_command() -> bool:
    """Whether this process is `recops ...` or `python -m recops ...`."""
    started = getattr(_sys, "argv", None) or [""]
    if started[0] == "-m":
        following = _sys.orig_argv[_sys.orig_argv.index("-m") + 1 :]
        return following[:1] == ["recops"]
    return _Path(started[0]).stem == "recops"


def _load() -> None:
    """Import the public names, and TensorFlow with them."""
    globals().pop("__getattr__", None)
    from recops import _public

    names = _public.__all__
    globals().update({name: getattr(_public, name) for name in names}, __all__=names)


# `import recops` registers the layers with Keras, so that a saved model loads. The command alone
# waits until it knows what to do: --help and a mistake are answered without TensorFlow.
if _is_command():

    def __getattr__(name: str) -> _Any:
        if name.startswith("_") and name not in ("__all__", "__version__"):
            raise AttributeError(f"module 'recops' has no attribute {name!r}")
        _load()
        return getattr(_sys.modules[__name__], name)
else:
    _load()
