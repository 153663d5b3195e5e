"""The code in the documents for those who come from another library runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.mark.parametrize("name", ["from_deepctr", "from_tfa"])
def test_its_code_runs(name: str, capsys: Any) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / f"{name}.md").read_text(), re.DOTALL)
    assert len(blocks) > 2
    names: dict[str, Any] = {}
    # Importing DeepCTR asks the network for its newest version.
    with mock.patch("requests.get", side_effect=ConnectionError):
        for block in blocks:
            exec(compile(block, f"{name}.md", "exec"), names)


def test_every_swap_of_deepctr_is_in_its_table() -> None:
    from recops.accelerate import deepctr

    text = (DOCS / "from_deepctr.md").read_text()
    for swap in deepctr.SWAPS:
        assert f"`{swap.path.rpartition('.')[2]}`" in text
