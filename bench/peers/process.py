"""Train steps of another library, taken in an environment and a process of its own.

The script of a peer gets the path of an .npz file: what is asked as JSON, the inputs by name, the
labels. It answers a line of JSON that says what was built, and then, for each line that comes in
with the number of one of the forms that were asked for, the loss of a step of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DEEPCTR, FUXICTR = (ROOT / name / "bin" / "python" for name in (".venv-peers", ".venv-fuxictr"))


@contextmanager
def stepping(
    name: str,
    python: Path,
    script: str,
    asked: Mapping[str, Any],
    inputs: Mapping[str, np.ndarray],
    labels: np.ndarray,
) -> Iterator[tuple[Callable[[int], float], dict[str, Any]]]:
    """A step by the number of its form, and what the peer says of itself.

    Raises: RuntimeError with the end of its log where it ends.
    """
    with tempfile.TemporaryDirectory(prefix="recops-") as folder:
        source = Path(folder) / "batch.npz"
        np.savez(source, asked=np.array(json.dumps(asked)), labels=labels, **inputs)
        command = [str(python), str(HERE / script), str(source)]
        log = Path(folder) / "log"
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        # PyTorch's threads would otherwise spin through the next one's turn, some 10 ms; within a
        # step this is enough.
        pipes["env"] = {**os.environ, "GOMP_SPINCOUNT": "10000"}
        with log.open("w") as said, subprocess.Popen(command, stderr=said, **pipes) as process:

            def answer() -> dict[str, Any]:
                # Libraries print as well.
                for line in process.stdout:
                    if line.startswith("{"):
                        return json.loads(line)
                raise RuntimeError(f"{name} ended\n{log.read_text()[-2000:]}")

            def step(form: int) -> float:
                process.stdin.write(f"{form}\n")
                process.stdin.flush()
                return answer()["loss"]

            try:
                yield step, answer()
            finally:
                process.stdin.close()
                process.wait(timeout=60)
