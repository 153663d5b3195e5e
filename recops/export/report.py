"""What `export` did."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Report:
    """What `recops.export` wrote. Printable; `to_dict()` gives the same as plain data.

    Args:
      path: of the folder or file.
      format: "saved_model" or "onnx".
      model: its name.
      inputs, outputs: name -> its shape in words, such as "[B, 50] int32"; B is any size.
      ops: type of op -> how often the program has it.
      bytes: on disk.
      max_difference: from the live model on the probe batch, relative to the largest output; None
        where nothing was compared.
      tolerance: what it may be.
      probe: shapes of the batches that were compared, in words.

    Example:
      >>> report = Report("din", "onnx", "DIN", {"item": "[B] int32"}, {"output": "[B, 1] float32"})
      >>> print(report)
      DIN as onnx: din
      inputs   item [B] int32
      outputs  output [B, 1] float32
      not compared with the live model
    """

    path: str
    format: str
    model: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    ops: dict[str, int] | None = None
    bytes: int | None = None
    max_difference: float | None = None
    tolerance: float | None = None
    probe: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, strings and numbers."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.model} as {self.format}: {self.path}"]
        if self.bytes is not None:
            lines[0] += f", {_size(self.bytes)}"
        for kind, named in (("inputs", self.inputs), ("outputs", self.outputs)):
            said = [f"{name} {shape}" for name, shape in named.items()]
            lines += [f"{kind if not i else '':8} {line}" for i, line in enumerate(said)]
        if self.ops is not None:
            lines.append(f"ops      {sum(self.ops.values())}, none of recops and none of XLA")
        if self.max_difference is None:
            lines.append("not compared with the live model")
        else:
            lines.append(
                f"loaded in a fresh process without recops: {self.max_difference:.1e} from the "
                f"live model on {self.probe} (at most {self.tolerance:.0e})"
            )
        return "\n".join(lines)


def _size(count: int) -> str:
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB"):
        if size >= 1000:
            size, unit = size / 1000, larger
    return f"{size:.{0 if unit == 'bytes' else 1}f} {unit}"
