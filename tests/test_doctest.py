"""Every example in a docstring runs, as does every Python block of the README."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
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


def test_every_public_op_and_layer_has_an_example() -> None:
    for package in (recops.ops, recops.layers):
        for name in package.__all__:
            assert ">>>" in (getattr(package, name).__doc__ or ""), f"{name} has no example"


def test_readme_examples() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    assert blocks
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), scope)
