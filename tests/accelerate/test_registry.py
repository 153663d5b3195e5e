"""Swaps are found by the very class of a layer."""

from __future__ import annotations

from typing import Any

import pytest

from recops.accelerate import registry
from recops.accelerate.registry import Kept, Replacement, Swap, class_path, find, register


class Stock:
    """A layer of somebody's package, for all that the registry looks at."""


class Derived(Stock):
    """A subclass, which may do anything."""


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_SWAPS", dict(registry._SWAPS))


def _stays(layer: Any, shapes: Any) -> Replacement:
    raise Kept("for the test")


def test_a_class_is_found_by_module_and_name() -> None:
    assert class_path(Stock()) == "tests.accelerate.test_registry.Stock"
    swap = Swap(class_path(Stock()), "recops.layers.FM", _stays)
    register(swap)
    assert find(Stock()) is swap


def test_a_subclass_is_no_match() -> None:
    register(Swap(class_path(Stock()), "recops.layers.FM", _stays))
    assert find(Derived()) is None


def test_the_last_swap_of_a_path_counts() -> None:
    for now in ("recops.layers.FM", "recops.layers.FFM"):
        register(Swap(class_path(Stock()), now, _stays))
    found = find(Stock())
    assert found is not None
    assert found.now == "recops.layers.FFM"


@pytest.mark.parametrize("path", ["Stock", "", ".Stock", "tests."])
def test_a_path_has_a_module_and_a_name(path: str) -> None:
    with pytest.raises(ValueError, match="path of a class"):
        register(Swap(path, "recops.layers.FM", _stays))


def test_what_is_no_swap_is_refused() -> None:
    with pytest.raises(TypeError, match=r"expected a recops\.accelerate\.Swap, got 'GRU'"):
        register("GRU")  # type: ignore[arg-type]
