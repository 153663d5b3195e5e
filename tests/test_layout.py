"""The house stands: every op has its parts, imports point one way, files stay readable."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

from recops import ops
from recops._core import dispatch
from recops._core.cases import select

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "recops"
OPS = sorted(dispatch.rooms())
ROOMS = sorted({room.name for room in dispatch.rooms().values()})
LAYERS = ("_core", "ops", "layers", "models")
SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_all_its_files(room: str) -> None:
    wanted = [
        *(
            PACKAGE / "ops" / room / f"{stem}.py"
            for stem in ("api", "reference", "xla", "stock", "cases")
        ),
        ROOT / "tests" / "oracles" / f"{room}.py",
        ROOT / "tests" / "ops" / f"test_{room}.py",
        ROOT / "docs" / "ops" / f"{room}.md",
    ]
    if (PACKAGE / "ops" / room / "cpp.py").exists():
        wanted.append(ROOT / "recops_cc" / room / "kernel.cc")
    assert not [str(path.relative_to(ROOT)) for path in wanted if not path.exists()]


def test_every_room_on_disk_is_registered() -> None:
    on_disk = {path.parent.name for path in (PACKAGE / "ops").glob("*/api.py")}
    assert on_disk == set(ROOMS)


@pytest.mark.parametrize("op", OPS)
def test_an_op_has_reference_oracle_stock_and_cases(op: str) -> None:
    room = dispatch.rooms()[op]
    assert callable(getattr(ops, op))
    assert op in ops.__all__
    assert hasattr(room.reference, op)
    assert op in importlib.import_module(f"tests.oracles.{room.name}").ORACLES
    assert importlib.import_module(f"recops.ops.{room.name}.stock").FORMS[op]
    cases = importlib.import_module(f"recops.ops.{room.name}.cases").CASES
    for tag in ("test", "smoke", "bench"):
        assert select(cases, tag, op), f"no case of {op} is tagged {tag}"


def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("level", LAYERS[:-1])
def test_imports_point_one_way(level: str) -> None:
    above = LAYERS[LAYERS.index(level) + 1 :]
    against = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((PACKAGE / level).rglob("*.py"))
        for name in _imported(path)
        if name.startswith(tuple(f"recops.{other}" for other in above))
        # `select` looks an op up by name; it runs none.
        and path.name != "dispatch.py"
    ]
    assert not against


def test_stock_is_never_dispatched_to() -> None:
    allowed = {"op_bench.py"}
    users = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if path.name not in allowed and any(name.endswith(".stock") for name in _imported(path))
    ]
    assert not users


@pytest.mark.parametrize(
    "path",
    [
        p
        for folder in ("recops", "tests", "bench", "examples")
        for p in (ROOT / folder).rglob("*.py")
    ],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_files_are_short_and_say_what_they_are_for(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") < 400
    assert not text.strip() or ast.get_docstring(ast.parse(text))


def test_one_version_literal() -> None:
    from recops import __version__

    holders = [
        p.name for p in [*SOURCES, ROOT / "pyproject.toml"] if f'"{__version__}"' in p.read_text()
    ]
    assert holders == ["version.py"]


def test_no_file_is_a_drawer_for_everything() -> None:
    assert not [p.name for p in SOURCES if p.stem in {"utils", "util", "helpers", "misc", "common"}]
