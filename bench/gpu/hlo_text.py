"""Reading the text of an HLO module, as far as a model of its time needs it."""

from __future__ import annotations

import functools
import json
import math
import re
from dataclasses import dataclass
from typing import Any

_SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,<=\s]*)\]")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+)[ (].*\{\s*$")
_NAME = re.compile(r"%([\w.\-]+)")
_OPCODE = re.compile(r"\s*([a-z][\w\-]*)\(")
_BITS = re.compile(r"\d+")


@dataclass(frozen=True)
class Shape:
    """An array: its type as HLO writes it, and its sizes."""

    dtype: str
    sizes: tuple[int, ...]

    @property
    def elements(self) -> int:
        """The number of its elements, 1 of a scalar."""
        return math.prod(self.sizes)

    @property
    def bytes(self) -> float:
        """Its size in memory."""
        return self.elements * _element_bytes(self.dtype)


def _element_bytes(dtype: str) -> float:
    if dtype == "pred":
        return 1.0
    if dtype in ("token", "opaque"):
        return 0.0
    bits = int(_BITS.search(dtype)[0])
    # A complex number is named by the bits of both of its parts; f8e4m3 by 8.
    return bits / 8


@dataclass(frozen=True)
class Instruction:
    """One line of a computation. `operands` are names; `rest` is what stands behind them."""

    name: str
    root: bool
    shapes: tuple[Shape, ...]
    opcode: str
    operands: tuple[str, ...]
    rest: str

    @property
    def bytes(self) -> float:
        """The size of its results."""
        return sum(shape.bytes for shape in self.shapes)

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """Its `backend_config`, empty where there is none or it is no JSON."""
        at = self.rest.find("backend_config={")
        if at < 0:
            return {}
        try:
            return json.JSONDecoder().raw_decode(self.rest[at + len("backend_config=") :])[0]
        except json.JSONDecodeError:
            return {}

    @property
    def trip_count(self) -> int | None:
        """Steps of a loop, None where XLA does not know them."""
        count = self.config.get("known_trip_count")
        return int(count["n"]) if count else None

    @property
    def target(self) -> str:
        """What a custom call calls."""
        found = re.search(r'custom_call_target="([^"]*)"', self.rest)
        return found[1] if found else ""

    @property
    def precision(self) -> str:
        """What `operand_precision` says of a product, in the text or in its configuration."""
        found = re.search(r'operand_precision"?[=:]\s*[{\[]([^}\]]*)[}\]]', self.rest)
        return found[1].lower() if found else ""

    @property
    def labels(self) -> tuple[str, str, str]:
        """Labels of the axes of a convolution's input, kernel and output."""
        found = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", self.rest)
        return found[1], found[2], found[3]

    def axes(self, attribute: str) -> list[int]:
        """An attribute that lists axes: `lhs_contracting_dims={1}`."""
        found = re.search(attribute + r"=\{([\d,]*)\}", self.rest)
        return [int(axis) for axis in found[1].split(",") if axis] if found else []

    def called(self, attribute: str) -> list[str]:
        """The computations that an attribute names, one or a list in braces."""
        found = re.search(rf"\b{attribute}=(\{{[^}}]*\}}|%?[\w.\-]+)", self.rest)
        return re.findall(r"[\w.\-]+", found[1].replace("%", "")) if found else []


@dataclass(frozen=True)
class Module:
    """Computations by name, each a list of instructions, and the name of the entry."""

    computations: dict[str, list[Instruction]]
    entry: str

    @functools.cached_property
    def by_name(self) -> dict[str, dict[str, Instruction]]:
        """computation -> name -> instruction."""
        return {c: {i.name: i for i in body} for c, body in self.computations.items()}


def parse(text: str) -> Module:
    """Read a module.

    Raises: ValueError where the text has no entry.
    """
    computations: dict[str, list[Instruction]] = {}
    entry, body = None, None
    for line in text.splitlines():
        if line.startswith("HloModule"):
            continue
        if not line.startswith((" ", "}")) and (header := _HEADER.match(line)):
            body = computations.setdefault(header[2], [])
            entry = header[2] if header[1] else entry
        elif body is not None and (found := _INSTRUCTION.match(line)):
            body.append(_instruction(found[2], bool(found[1]), found[3]))
    if entry is None:
        raise ValueError("the text must be an HLO module with an ENTRY computation, got none")
    return Module(computations, entry)


def _instruction(name: str, root: bool, text: str) -> Instruction:
    """Of "f32[2]{0} add(%a, %b), attributes"; a tuple's shape stands in parentheses."""
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    shapes = tuple(
        Shape(dtype, tuple(int(n) for n in re.findall(r"\d+", sizes)))
        for dtype, sizes in _SHAPE.findall(text[:end])
    )
    opcode = _OPCODE.match(text, end)
    start = opcode.end() - 1
    stop = _closing(text, start)
    operands = tuple(_NAME.findall(text[start:stop]))
    return Instruction(name, root, shapes, opcode[1], operands, text[stop + 1 :])


def _closing(text: str, start: int) -> int:
    """Where the parenthesis that opens at `start` is closed; those in strings do not count."""
    depth, quoted = 0, False
    for at in range(start, len(text)):
        character = text[at]
        if character == '"' and text[at - 1] != "\\":
            quoted = not quoted
        elif not quoted and character in "([{":
            depth += 1
        elif not quoted and character in ")]}":
            depth -= 1
            if depth == 0:
                return at
    return len(text) - 1
