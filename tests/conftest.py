"""Test-wide settings: one TensorFlow thread a worker, so that two workers fill two cores."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# A choice made by whoever runs the tests must not decide which backend they test.
os.environ.pop("RECOPS_BACKEND", None)

import pytest
import tensorflow as tf

from recops._core.cases import Case
from recops._core.compat import keras
from tests.kept_run import keep
from tests.needs import skip_what_cannot_run

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
# What is compared with float64 is multiplied as float32, not as TF32; a CPU has none.
tf.config.experimental.enable_tensor_float_32_execution(False)


@pytest.fixture(autouse=True)
def seed() -> None:
    """Weights that are drawn are the same in every run, and so is what 16 bit loses on them."""
    keras.utils.set_random_seed(3)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(name, reason): skipped where tests.needs says so")


def pytest_runtest_setup(item: pytest.Item) -> None:
    skip_what_cannot_run(item)


_started = time.time()
# Neither workers nor tests that run tests keep a row of their own.
_kept = os.environ.pop("RECOPS_TESTED", None)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if _kept:
        ignored = config.getoption("ignore") or ()
        keep(Path(_kept), config.args, terminalreporter.stats, _started, ignored)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests that share compiled programs and expected values to the same worker.

    Which are those of one case of an op, of one layer, or of one model.
    """
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        case, spec, name = (parameters.get(key) for key in ("case", "spec", "name"))
        if isinstance(case, Case):
            item.add_marker(pytest.mark.xdist_group(f"{case.op}-{case.name}"))
        elif spec is not None:
            item.add_marker(pytest.mark.xdist_group(spec.name))
        elif isinstance(name, str) and item.path.parent.name == "models":
            item.add_marker(pytest.mark.xdist_group(name))


@pytest.fixture
def bare_python(tmp_path: Path) -> Path:
    """A Python without any package installed."""
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    program.chmod(0o755)
    return program
