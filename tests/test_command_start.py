"""The command answers --help without TensorFlow; `import recops` still makes saved models load."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _run(*command: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """What an installer makes of the entry point."""
    script = tmp_path / "recops"
    script.write_text("import sys\nfrom recops.cli import main\nsys.exit(main())\n")
    return script


ANSWERED = {
    "--help": (0, "usage: recops"),
    "--version": (0, "recops "),
    "train --help": (0, "usage: recops train"),
    "bench --help": (0, "usage: recops bench"),
    "": (2, "COMMAND"),
    "dance": (2, "invalid choice: 'dance'"),
    "train FM --epochs 0": (2, "--epochs: expected a whole number"),
}


@pytest.mark.parametrize("line", ANSWERED)
def test_what_needs_no_tensorflow_is_answered_without(line: str, command: Path) -> None:
    code, said = ANSWERED[line]
    done = _run("-X", "importtime", str(command), *line.split())
    assert done.returncode == code
    assert said in done.stdout + done.stderr
    imported = [one.rsplit("|", 1)[1].strip() for one in done.stderr.splitlines() if "|" in one]
    assert "recops.cli" in imported
    assert not {"tensorflow", "keras", "numpy"} & set(imported)


def test_as_a_module_too() -> None:
    done = _run("-X", "importtime", "-m", "recops", "--help")
    assert done.returncode == 0
    assert "usage: recops" in done.stdout
    assert " tensorflow" not in done.stderr


def test_the_package_is_whole_once_a_command_uses_it(tmp_path: Path) -> None:
    # As in a process that the command starts with the same arguments.
    script = tmp_path / "recops"
    script.write_text(
        "import sys, recops\n"
        "assert 'tensorflow' not in sys.modules\n"
        "assert not hasattr(recops, '_nothing')\n"
        "assert 'tensorflow' not in sys.modules\n"
        "assert callable(recops.explain) and callable(recops.info)\n"
        "assert 'layers' in recops.__all__\n"
        "assert not hasattr(recops, 'nothing')\n"
    )
    done = _run(str(script))
    assert done.returncode == 0, done.stderr


def test_import_recops_makes_a_saved_model_load(tmp_path: Path) -> None:
    saved = tmp_path / "model.keras"
    script = tmp_path / "save.py"
    script.write_text(
        "import recops\n"
        "import tensorflow as tf\n"
        "inputs = tf.keras.Input((3, 4))\n"
        "outputs = recops.layers.FM()(inputs)\n"
        f"tf.keras.Model(inputs, outputs).save({str(saved)!r})\n"
    )
    done = _run(str(script))
    assert done.returncode == 0, done.stderr
    for first, second in (("recops", "tensorflow"), ("tensorflow", "recops")):
        done = _run(
            "-c",
            f"import {first}, {second}\n"
            "import tensorflow as tf\n"
            f"print(type(tf.keras.models.load_model({str(saved)!r}).layers[-1]).__module__)",
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("recops.layers")
