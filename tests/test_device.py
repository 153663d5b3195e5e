"""The device that a program is made for, and the form that goes with it."""

from __future__ import annotations

import pytest
import tensorflow as tf

from recops._core import device, numerics


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What TensorFlow says of logical devices on a machine with a GPU."""
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [f"/device:{kind}:0"])


def test_a_gpu_decides_where_there_is_one(request: pytest.FixtureRequest) -> None:
    here = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    assert device.kind() == here
    request.getfixturevalue("a_gpu")
    assert device.kind() == "GPU"
    assert device.form(gpu=1, cpu=2) == 1


def test_logical_devices_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that is hidden by `set_visible_devices` is a physical device still."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda *kind: ["/physical_device"])
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda *kind: [])
    assert device.kind() == "CPU"


@pytest.mark.usefixtures("a_gpu")
def test_a_device_scope_decides_before_what_is_there() -> None:
    with tf.device("/CPU:0"):
        assert device.kind() == "CPU"
        with tf.device("/job:localhost"):
            assert device.kind() == "CPU"
        with tf.device("GPU:0"):
            assert device.kind() == "GPU"
    seen: list[str] = []

    @tf.function
    def traced() -> tf.Tensor:
        seen.append(device.kind())
        with tf.device("CPU"):
            seen.append(device.kind())
        with tf.device(tf.DeviceSpec(device_type="CPU")):
            seen.append(device.kind())
        return tf.zeros([])

    traced()
    assert seen == ["GPU", "CPU", "CPU"]


def test_running_on_decides_before_all_and_ends() -> None:
    before = device.kind()
    with device.running_on("GPU"):
        assert device.kind() == "GPU"
        with device.running_on("CPU"), tf.device("CPU"):
            assert device.kind() == "CPU"
        with tf.device("CPU"):
            assert device.kind() == "GPU"
    assert device.kind() == before
    with pytest.raises(ValueError, match="running_on: expected one of CPU, GPU, got 'TPU'"):
        device.running_on("TPU").__enter__()


def test_each_device_has_its_own_program() -> None:
    """A program that was traced for one kind must not run for the other."""
    program = numerics.jit(lambda x: device.form(gpu=x + 1, cpu=x - 1))
    one = tf.constant(1)
    for kind, want in (("CPU", 0), ("GPU", 2), ("CPU", 0)):
        with device.running_on(kind):
            assert int(program(one)) == want
