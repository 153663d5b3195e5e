"""The tasks of a distributed training, as `TF_CONFIG` names them, and waiting for them."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

_NAME = "TF_CONFIG"
_FORM = (
    '{"cluster": {"chief": ["host:port"], "worker": ["host:port", ...]}, '
    '"task": {"type": "worker", "index": 0}}'
)
_JOBS = ("chief", "worker", "ps")


@dataclass(frozen=True)
class Cluster:
    """The addresses of all tasks by job, and which task this process is."""

    addresses: Mapping[str, tuple[str, ...]]
    job: str
    index: int

    @property
    def own(self) -> str:
        """The address of this task."""
        return self.addresses[self.job][self.index]

    @property
    def others(self) -> dict[str, str]:
        """Address -> name of each other task."""
        return {
            address: f"{job} {index}"
            for job, found in self.addresses.items()
            for index, address in enumerate(found)
            if address != self.own
        }

    def check_jobs(self, strategy: str, needed: tuple[str, ...], allowed: tuple[str, ...]) -> None:
        """Raise ValueError unless the cluster has the jobs of a strategy and no other."""
        for job in needed:
            if job not in self.addresses:
                raise ValueError(f"{_NAME}: the strategy {strategy} needs a {job!r} in the cluster")
        for job in self.addresses:
            if job not in allowed:
                raise ValueError(f"{_NAME}: the strategy {strategy} has no job {job!r}")

    def wait(self, seconds: float) -> None:
        """Wait until each task has its port open.

        Until then this process holds its own port open for the others; TensorFlow takes it next.

        Raises: ValueError when the port is taken, or a task does not come in time: TensorFlow would
        wait for it without a word.
        """
        with _listening(self.own):
            missing = self.others
            end = time.monotonic() + seconds
            while missing:
                missing = {a: name for a, name in missing.items() if not _answers(a)}
                if missing and time.monotonic() > end:
                    named = ", ".join(f"{name} ({a})" for a, name in missing.items())
                    raise ValueError(
                        f"{_NAME}: {named} did not come within {seconds:g} s; start all tasks, "
                        f"with the same cluster, or wait longer for them (--wait)"
                    )
                if missing:
                    time.sleep(0.1)


def from_environment() -> Cluster:
    """What `TF_CONFIG` says, or ValueError."""
    text = os.environ.get(_NAME)
    if not text:
        raise ValueError(f"{_NAME} is not set; give each task its own: {_FORM}")
    try:
        found = json.loads(text)
        cluster, task = found["cluster"], found["task"]
        job, index = task["type"], int(task["index"])
        addresses = {name: tuple(given) for name, given in cluster.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        said = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{_NAME} cannot be read ({said}); it must be {_FORM}") from None
    for name in addresses:
        if name not in _JOBS:
            raise ValueError(f"{_NAME}: unknown job {name!r}; there are {', '.join(_JOBS)}")
    flat = [address for given in addresses.values() for address in given]
    for address in flat:
        host, _, port = str(address).rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 2**16:
            raise ValueError(f"{_NAME}: expected an address host:port, got {address!r}")
        if flat.count(address) > 1:
            raise ValueError(f"{_NAME}: {address} is there twice; each task needs its own")
    if len(addresses.get("chief", ())) > 1:
        raise ValueError(f"{_NAME}: there is one chief, got {len(addresses['chief'])}")
    if not 0 <= index < len(addresses.get(job, ())):
        raise ValueError(f"{_NAME}: the task {job} {index} is not in the cluster")
    return Cluster(addresses, job, index)


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _listening(address: str) -> socket.socket:
    host, port = _split(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        # What a task that was killed has left behind is no obstacle, another program is.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # On all interfaces, as TensorFlow's server: the name may be that of a service before us.
        made.bind(("", port))
        made.listen(128)
    except OSError as error:
        made.close()
        raise ValueError(
            f"{_NAME}: port {port} of this task ({address}) cannot be opened ({error.strerror}); "
            f"end the program that has it, or name another port"
        ) from None
    return made


def _answers(address: str) -> bool:
    try:
        socket.create_connection(_split(address), timeout=1.0).close()
    except OSError:
        return False
    return True
