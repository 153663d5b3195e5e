"""Every example in a docstring runs, as does every Python block of the README."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
import types
from pathlib import Path

import pytest

import recops

MODULES = [
    info.name
    for info in pkgutil.walk_packages(recops.__path__, "recops.")
    if not info.name.endswith("__main__")
]
README = Path(__file__).resolve().parent.parent / "README.md"


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    module = importlib.import_module(name)
    failed = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert failed.failed == 0


PACKAGES = (
    recops.data,
    recops.layers,
    recops.losses,
    recops.metrics,
    recops.models,
    recops.ops,
    recops.retrieval,
    recops.schedules,
)


def _public(package: types.ModuleType) -> list[str]:
    """Names in `__all__`, or, of a module without one, what it defines itself."""
    if hasattr(package, "__all__"):
        return package.__all__
    return [
        name
        for name, value in vars(package).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == package.__name__
    ]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_everything_public_has_an_example(package: types.ModuleType) -> None:
    named = {name: getattr(package, name) for name in _public(package)}
    # An error is raised, not made.
    judged = {
        name: value
        for name, value in named.items()
        if inspect.isroutine(value) or (inspect.isclass(value) and not issubclass(value, Exception))
    }
    assert judged
    without = [
        name
        for name, value in judged.items()
        if not re.search(r"Example:.*>>>", inspect.getdoc(value) or "", re.S)
    ]
    assert not without, f"{package.__name__}: no example for {', '.join(without)}"


def test_readme_examples() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    assert blocks
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), scope)
