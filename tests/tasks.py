"""The tasks of a cluster as processes on this machine, which end with the test at the latest."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path


def ports(number: int) -> list[int]:
    """So many ports that no program has now."""
    with contextlib.ExitStack() as held:
        found = [held.enter_context(socket.socket()) for _ in range(number)]
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in found]


def configs(**sizes: int) -> dict[str, str]:
    """Task ("worker 0") -> its TF_CONFIG, of so many tasks a job."""
    free = iter(ports(sum(sizes.values())))
    jobs = {job: [f"127.0.0.1:{next(free)}" for _ in range(n)] for job, n in sizes.items()}
    return {
        f"{job} {index}": json.dumps({"cluster": jobs, "task": {"type": job, "index": index}})
        for job, addresses in jobs.items()
        for index in range(len(addresses))
    }


class Tasks:
    """Running processes by task."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self, found: dict[str, str], command: Sequence[str], **environment: str
    ) -> dict[str, subprocess.Popen[bytes]]:
        """Start the same command of Python in each task."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for task, config in found.items():
            with self.log(task).open("ab") as log:
                self.running[task] = subprocess.Popen(
                    [sys.executable, *command],
                    env={**os.environ, "TF_CONFIG": config, **environment},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
        return self.running

    def log(self, task: str) -> Path:
        return self.folder / f"{task.replace(' ', '-')}.log"

    def ended(self, seconds: float, tasks: Sequence[str] = ()) -> dict[str, int]:
        """Exit codes of these tasks, or all, which must end in time."""
        end = time.monotonic() + seconds
        codes = {}
        for task in tasks or self.running:
            try:
                codes[task] = self.running[task].wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                said = self.log(task).read_text(errors="replace")[-3000:]
                raise AssertionError(f"{task} did not end in {seconds} s: {said}") from None
        return codes

    def said(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"{t}: {self.log(t).read_text()[-1500:]}" for t in self.running)

    def kill(self, tasks: Sequence[str] = ()) -> None:
        """kill -9, of these tasks or all that still run."""
        for task in tasks or self.running:
            if self.running[task].poll() is None:
                self.running[task].kill()
                self.running[task].wait()


@contextlib.contextmanager
def tasks(folder: Path) -> Iterator[Tasks]:
    """None of them outlives the block."""
    made = Tasks(folder)
    try:
        yield made
    finally:
        made.kill()
