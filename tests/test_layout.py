"""The house stands: each op has its parts, imports go one way in no circle, files are readable."""

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
# From below: a level imports nothing of those after it.
LEVELS = (
    ("_core",),
    ("ops",),
    ("layers",),
    ("models", "optimizers"),
    ("training", "profiling", "accelerate", "export"),
    ("cli",),
)
TOP_LEVEL = {
    "__init__.py", "__main__.py", "_public.py", "version.py", "_core", "ops", "layers",
    "features.py", "models", "losses.py", "schedules.py", "metrics", "retrieval.py", "data",
    "training", "profiling", "explain", "export", "cli",
}  # fmt: skip
# A place is kept for these.
TO_COME = {"optimizers", "accelerate"}
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
    assert room.file("stock").FORMS[op]
    cases = room.file("cases").CASES
    for tag in ("test", "smoke", "bench"):
        assert select(cases, tag, op), f"no case of {op} is tagged {tag}"


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module(path): path for path in SOURCES}


def _imported(path: Path) -> set[str]:
    """Modules that a file imports, wherever in it; of recops each where a name is from."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names |= {name if name in MODULES else str(node.module) for name in whole}
    return names


@pytest.mark.parametrize("level", range(len(LEVELS) - 1))
def test_imports_point_one_way(level: int) -> None:
    above = tuple(f"recops.{name}" for names in LEVELS[level + 1 :] for name in names)
    against = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in SOURCES
        if path.relative_to(PACKAGE).parts[0] in LEVELS[level]
        for name in _imported(path)
        if name.startswith(above)
    ]
    assert not against


def test_imports_have_no_circle() -> None:
    imports = {name: sorted(_imported(path) & set(MODULES)) for name, path in MODULES.items()}
    done: set[str] = set()

    def walk(name: str, way: tuple[str, ...]) -> None:
        if name in way:
            pytest.fail("circle: " + " -> ".join((*way[way.index(name) :], name)))
        if name not in done:
            for other in imports[name]:
                walk(other, (*way, name))
            done.add(name)

    for name in MODULES:
        walk(name, ())
    # A check of nothing would pass too.
    assert "recops._core.dispatch" in imports["recops.ops.pairwise.api"]


def test_the_top_level_holds_what_is_planned() -> None:
    held = {path.relative_to(PACKAGE).parts[0] for path in SOURCES}
    assert held - TO_COME == TOP_LEVEL


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
