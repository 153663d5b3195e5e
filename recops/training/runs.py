"""The folder of a training run, which is whole after a kill at any moment."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from recops._core.info import info
from recops._core.whole import writing

_HISTORY, _MODEL, _STATE = "history.json", "model.keras", "state"
_LOCK = "lock"


def standing(figures: Sequence[float]) -> tuple[int, int]:
    """Index of the best epoch (the first of equals) and the epochs since; (0, 0) for none.

    Example:
      >>> standing([0.71, 0.74, 0.74, 0.73])
      (1, 2)
    """
    if not figures:
        return 0, 0
    best = max(range(len(figures)), key=lambda i: (figures[i], -i))
    return best, len(figures) - 1 - best


class Run:
    """The folder of a run. Each file appears under its name when it is whole.

    The history is what counts: a state that it does not name is none. The best epoch is that with
    the largest `criterion` in validation.
    """

    def __init__(self, folder: Path, content: dict[str, Any], criterion: str = "auc") -> None:
        self.folder = folder
        self.criterion = criterion
        self.options: dict[str, Any] = content["options"]
        self.epochs: list[dict[str, Any]] = content["epochs"]
        self.test: dict[str, float] = content["test"]
        # Of an epoch that is not finished: epoch, step, the mean loss so far, and the workers.
        self.halfway: dict[str, Any] | None = content.get("halfway")

    @property
    def figures(self) -> list[float]:
        """The criterion of each epoch."""
        return [epoch[f"validation_{self.criterion}"] for epoch in self.epochs]

    def commit(self, model: Any, record: dict[str, Any]) -> None:
        """Keep the state after an epoch; the states of the best and the last one stay."""
        with writing(self._state(record["epoch"])) as state:
            model.save(state)
        self.epochs.append(record)
        self.test, self.halfway = {}, None
        self.write()
        self._leave(self._state(len(self.epochs)), self._state(standing(self.figures)[0] + 1))

    def commit_step(self, model: Any, place: dict[str, Any]) -> None:
        """Keep the state after a step of an epoch, both in `place`, until a later one is kept."""
        epoch, step = place["epoch"], place["step"]
        with writing(self._state(epoch, step)) as state:
            model.save(state)
        self.halfway = place
        self.write()
        best = [self._state(standing(self.figures)[0] + 1), self._state(epoch - 1)]
        self._leave(self._state(epoch, step), *best)

    def _leave(self, *kept: Path) -> None:
        for path in (self.folder / _STATE).glob("epoch-*.keras"):
            if path not in kept:
                path.unlink()

    def restore(self, model: Any, epoch: int, step: int = 0) -> None:
        """Give a model, built and compiled alike, the state after an epoch, or in one."""
        # Before it is built it has no variables to load into; built twice, it would have too many.
        if not getattr(model.optimizer, "built", False):
            model.optimizer.build(model.trainable_variables)
        model.load_weights(self._state(epoch, step))

    def finish(self, best: int, test: dict[str, float]) -> None:
        with writing(self.folder / _MODEL) as file:
            shutil.copyfile(self._state(best), file)
        self.test = test
        self.write()

    def write(self) -> None:
        content = {
            "options": self.options,
            "versions": info().versions,
            "epochs": self.epochs,
            "best_epoch": standing(self.figures)[0] + 1 if self.epochs else None,
            "test": self.test,
        }
        if self.halfway:
            content["halfway"] = self.halfway
        with writing(self.folder / _HISTORY) as file:
            file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def _state(self, epoch: int, step: int = 0) -> Path:
        place = f"{epoch:04d}-{step:08d}" if step else f"{epoch:04d}"
        return self.folder / _STATE / f"epoch-{place}.keras"


class Followed(Run):
    """The run of a process that is not the chief: its history, and nothing on disk."""

    def commit(self, model: Any, record: dict[str, Any]) -> None:
        """The record alone."""
        self.epochs.append(record)
        self.halfway = None

    def commit_step(self, model: Any, place: dict[str, Any]) -> None:
        """Nothing here."""

    def restore(self, model: Any, epoch: int, step: int = 0) -> None:
        """Nothing here: the chief shares its own."""

    def finish(self, best: int, test: dict[str, float]) -> None:
        """The figures alone."""
        self.test = test


@contextlib.contextmanager
def opened(
    folder: Path, asked: dict[str, Any], resume: bool, criterion: str = "auc"
) -> Iterator[Run]:
    """The run in a folder, new or resumed. A new one that fails in its first epoch leaves no trace.

    One that is interrupted stays, and can be resumed.
    """
    if resume:
        run = Run(folder, recorded(folder), criterion)
        _check_same(folder, run.options, asked)
    else:
        check_vacant(folder)
        run = Run(folder, {"options": asked, "epochs": [], "test": {}}, criterion)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with _held(folder):
            try:
                if resume:
                    # Another process may have gone on with it just before.
                    run = Run(folder, recorded(folder), criterion)
                # Writing the history now finds out whether the folder can be written, before
                # training.
                run.write()
            except OSError as error:
                raise _unwritable(folder, error) from error
            try:
                yield run
            except Exception:
                if not run.epochs and not run.halfway and not resume:
                    shutil.rmtree(folder / _STATE, ignore_errors=True)
                    (folder / _HISTORY).unlink(missing_ok=True)
                raise
    except Exception:
        # A folder that was made for nothing; one that holds something stays.
        with contextlib.suppress(OSError):
            for path in made:
                path.rmdir()
        raise


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """One process at a time writes a run; the system lets go of what a killed one held."""
    lock = FileLock(folder / _LOCK, timeout=0)
    try:
        (folder / _STATE).mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"train: another process trains into {folder}; wait for it, or choose another folder"
        ) from None
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        yield
    finally:
        # Nobody waits for it, so that its name may go first.
        (folder / _LOCK).unlink(missing_ok=True)
        lock.release()


def _unwritable(folder: Path, error: OSError) -> OSError:
    return OSError(
        f"train: the folder {folder} cannot be written ({error.strerror}); choose another"
    )


def begun(folder: Path) -> bool:
    """Whether a folder holds a run to go on with."""
    return (folder / _HISTORY).exists()


def check_vacant(folder: Path) -> None:
    """Raise ValueError when a folder holds a run."""
    for name in (_HISTORY, _MODEL):
        if (folder / name).exists():
            raise ValueError(
                f"train: {folder} already holds a run ({name}); go on with it by --resume "
                f"(resume=True), or choose another folder"
            )


def recorded(folder: Path) -> dict[str, Any]:
    """The history of the run in a folder, or ValueError."""
    path = folder / _HISTORY
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = {name: content[name] for name in ("options", "epochs", "test")}
        found["halfway"] = content.get("halfway")
        if "learning_rate" in found["options"]:
            # The first runs by name do not say what there was no choice of.
            found["options"] = {"optimizer": "adam", "l2_embedding_rows": "all", **found["options"]}
        return found
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(
            f"train: {folder} holds no run to resume (no {_HISTORY}); leave --resume out to begin "
            f"one there"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"train: {path} is not the history of a run ({error}); choose another folder"
        ) from None


def _check_same(folder: Path, had: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    # JSON has lists alone, so the options are compared in its form. More epochs change no epoch.
    plain = json.loads(json.dumps(asked))
    for name in sorted((set(had) | set(plain)) - {"epochs"}):
        if had.get(name) != plain.get(name):
            raise ValueError(
                f"train: the run in {folder} has {name} {had.get(name)!r}, but now it is "
                f"{plain.get(name)!r}; resume it as it was begun, or choose another folder"
            )
