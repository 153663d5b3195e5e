"""What recops found on this machine: versions, devices, and each op's backends."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from recops._core import compat, cpu, dispatch, native
from recops.version import __version__

_X86_FLAGS = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16")
_ISA_FLAGS = (*_X86_FLAGS, "asimd", "sve", "sve2", "bf16", "i8mm")


@dataclass(frozen=True)
class Info:
    """What `info()` found. Printable; `to_dict()` gives the same as plain data.

    Args:
      versions: of recops, Python and the packages that it stands on.
      devices: kind of device -> its names.
      isa: vector instructions of the CPU.
      backend: the one that is asked for.
      native: what is known of the native library, in a sentence.
      library: its manifest, what it was built for; None where there is none.
      ops: op -> backend -> None when available, else the sentence that says why not.

    Example:
      >>> info().backend
      'auto'
    """

    versions: dict[str, str]
    devices: dict[str, list[str]]
    isa: list[str]
    backend: str
    native: str
    library: dict[str, Any] | None
    ops: dict[str, dict[str, str | None]]

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists and strings."""
        return {
            "versions": dict(self.versions),
            "devices": {kind: list(names) for kind, names in self.devices.items()},
            "isa": list(self.isa),
            "backend": self.backend,
            "native": self.native,
            "library": None if self.library is None else dict(self.library),
            "ops": {op: dict(states) for op, states in self.ops.items()},
        }

    def __str__(self) -> str:
        lines = ["  ".join(f"{name} {version}" for name, version in self.versions.items())]
        for kind, names in self.devices.items():
            lines.append(f"{kind}: {', '.join(names) or 'none'}")
        lines.append(f"ISA: {' '.join(self.isa) or 'unknown'}")
        lines.append(f"backend: {self.backend}")
        lines.append(f"native library: {self.native}")
        if self.library is not None:
            needs = " ".join(self.library["cpu_flags"]) or "nothing"
            lines.append(f"  needs of the CPU: {needs}")
        width = max(map(len, self.ops), default=0)
        lines.append(f"{'op':{width}}  " + "  ".join(f"{b:9}" for b in dispatch.CONCRETE))
        notes: dict[str, int] = {}
        for op, states in self.ops.items():
            cells = [
                "yes" if reason is None else f"no ({notes.setdefault(reason, len(notes) + 1)})"
                for reason in states.values()
            ]
            lines.append(f"{op:{width}}  " + "  ".join(f"{c:9}" for c in cells).rstrip())
        lines += [f"({number}) {reason}" for reason, number in notes.items()]
        return "\n".join(lines)

    __repr__ = __str__


def _isa() -> list[str]:
    return [cpu.machine(), *(flag for flag in _ISA_FLAGS if flag in cpu.flags())]


def info() -> Info:
    """Versions, devices, ISA, and for each op each backend: available, or why not.

    Raises: ValueError when RECOPS_BACKEND names no backend.

    Example:
      >>> import recops
      >>> recops.info().to_dict()["ops"]["pairwise_inner"]["reference"] is None
      True
    """
    with native.without_building():
        return _info()


def _info() -> Info:
    return Info(
        versions={
            "recops": __version__,
            "tensorflow": tf.__version__,
            "keras": f"{compat.KERAS_VERSION} ({compat.legacy_keras()})",
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        devices={
            kind: [device.name for device in tf.config.list_physical_devices(kind)]
            for kind in ("CPU", "GPU")
        },
        isa=_isa(),
        backend=dispatch.current(),
        native=native.describe(),
        library=native.manifest(),
        ops={
            op: {name: room.why_not(name, op) for name in dispatch.CONCRETE}
            for op, room in sorted(dispatch.rooms().items())
        },
    )
