"""Docstrings say what the code does: every example runs, every argument and default is named."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
import types
from pathlib import Path
from typing import Any

import pytest

import recops

MODULES = [
    info.name
    for info in pkgutil.walk_packages(recops.__path__, "recops.")
    if not info.name.endswith("__main__")
]
ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    module = importlib.import_module(name)
    failed = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert failed.failed == 0


PACKAGES = (
    recops,
    recops.data,
    recops.features,
    recops.layers,
    recops.losses,
    recops.metrics,
    recops.models,
    recops.ops,
    recops.optimizers,
    recops.retrieval,
    recops.schedules,
)
# Of a paper each: these have a source. The others are plain TensorFlow or Keras, or plumbing.
OF_PAPERS = (recops.layers, recops.models, recops.ops)
PLAIN = {"EmbeddingBag", "FusedEmbedding", "Linear", "MLP", "PaddingMask", "Entry", "select"}
# What takes words or single numbers, and no array.
WORDS = {"Entry", "Info", "backend", "embedding_dim", "info", "select", "set_backend"}
SHAPE = re.compile(r"\[(\w|\.\.\.)[^\]]*\]|\bshape\b|\bscalar\b")
SECTION = re.compile(
    r"^(Args|Defaults|Call|Attributes|Returns|Raises|Numerics|Cost|Source|Example): *", re.M
)


def _public(package: types.ModuleType) -> dict[str, Any]:
    """What `__all__` names, or, of a module without one, what it defines itself; no modules.

    An error is raised, not made, so that it is left out, and so are values.
    """
    named = {
        name: value
        for name, value in vars(package).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == package.__name__
    }
    if hasattr(package, "__all__"):
        named = {name: getattr(package, name) for name in package.__all__}
    if package is recops.features:
        # Its functions are for layers and models of one's own.
        named = {name: value for name, value in named.items() if inspect.isclass(value)}
    return {
        name: value
        for name, value in named.items()
        if inspect.isroutine(value) or (inspect.isclass(value) and not issubclass(value, Exception))
    }


PUBLIC = [
    pytest.param(package, name, value, id=f"{package.__name__}.{name}")
    for package in PACKAGES
    for name, value in _public(package).items()
]

each_public = pytest.mark.parametrize(("package", "name", "value"), PUBLIC)


def _sections(value: Any) -> dict[str, str]:
    """The docstring by the heads of its sections; what stands before the first has none."""
    head, *parts = SECTION.split(inspect.getdoc(value) or "")
    return {"": head, **dict(zip(parts[::2], parts[1::2]))}


def _arguments(value: Any) -> dict[str, inspect.Parameter]:
    found = inspect.signature(value).parameters
    return {n: p for n, p in found.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}


def _defaults(value: Any) -> str:
    """The line of a docstring that names the defaults. None is what an argument's text explains.

    So is "auto" for a backend, and the name that Keras numbers.
    """
    named = {
        name: argument.default
        for name, argument in _arguments(value).items()
        if argument.default not in (argument.empty, None) and name not in ("backend", "name")
    }
    # A dataclass makes these anew.
    named = {name: default for name, default in named.items() if "factory" not in repr(default)}
    texts = {n: f'"{d}"' if isinstance(d, str) else repr(d) for n, d in named.items()}
    return ", ".join(f"{name}={text}" for name, text in texts.items()) + "." if named else ""


@each_public
def test_everything_public_has_an_example(package: types.ModuleType, name: str, value: Any) -> None:
    assert ">>>" in _sections(value).get("Example", "")


@each_public
def test_every_argument_and_default_is_named(
    package: types.ModuleType, name: str, value: Any
) -> None:
    sections = _sections(value)
    # "name: text", or "name, name: text".
    said = " ".join(sections.get("Args", "").split())
    missing = [each for each in _arguments(value) if not re.search(rf"\b{each}(, \w+)*:", said)]
    assert not missing
    # As the signature has them, so that neither drifts from the other.
    assert " ".join(sections.get("Defaults", "").split()) == _defaults(value)


@each_public
def test_inputs_and_outputs_have_shapes(package: types.ModuleType, name: str, value: Any) -> None:
    if name in WORDS:
        return
    sections = _sections(value)
    said = {head: text for head, text in sections.items() if head not in ("Example", "Defaults")}
    if package is recops.models and "Call" not in said:
        # What goes in is by feature, each with a shape of its own.
        assert re.search(r"from \{.+: (values|ids)\}", said["Returns"])
        assert SHAPE.search(said["Returns"])
    elif inspect.isclass(value) and package in (
        recops.layers,
        recops.losses,
        recops.metrics,
    ):
        given, returned = re.split(r"Returns|Gives", said["Call"], maxsplit=1)
        assert SHAPE.search(given)
        assert SHAPE.search(returned)
    elif package is recops.data and inspect.isroutine(value) and "Dataset" in said["Returns"]:
        # The Dataset tells the shapes of its arrays.
        return
    elif package is recops.ops:
        assert SHAPE.search(said["Args"])
        assert SHAPE.search(said["Returns"])
    else:
        assert SHAPE.search(" ".join(said.values()))


@each_public
def test_what_is_of_a_paper_says_so(package: types.ModuleType, name: str, value: Any) -> None:
    if package in OF_PAPERS and name not in PLAIN:
        assert re.search(r"\b(19|20)\d\d\b", _sections(value).get("Source", ""))


DOCUMENTS = ("README.md", "docs/embeddings.md", "docs/profiling.md", "docs/serving.md")


@pytest.mark.needs("keras3", "`import keras` in the documents is Keras 3")
@pytest.mark.parametrize("name", DOCUMENTS)
def test_examples_in_documents(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert blocks
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, name, "exec"), scope)
