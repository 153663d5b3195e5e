"""`MirroredStrategy` on two logical CPUs."""

import subprocess
import sys

import pytest


@pytest.mark.needs("keras3")
def test_layers_models_and_optimizers_on_two_replicas():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x"]
    done = subprocess.run(
        [*command, "tests/two_replicas.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
