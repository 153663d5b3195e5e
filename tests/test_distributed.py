"""Several processes on this machine train one model: the same losses, kills, and bad input."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from recops import data
from recops.training import cluster
from recops.training.strategies import team_of
from tests.data import generated
from tests.small_run import run
from tests.tasks import configs, ports, tasks

keras3 = pytest.mark.needs("keras3", "the loop under a strategy is that of Keras 3")
RECOPS = ["-m", "recops"]


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    """Eight shards of train with some 800 rows each."""
    folder = tmp_path_factory.mktemp("encoded")
    source = generated.write(folder / "train.txt", 8000)
    data.encode(f"criteo:{source}", folder / "set", shard_rows=800, verbose=0)
    return folder / "set"


def said(command, **environment):
    done = subprocess.run(
        [sys.executable, *RECOPS, *command.split()],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, **environment},
    )
    return done.returncode, done.stderr


@keras3
def test_three_processes_lose_what_one_loses(encoded, tmp_path):
    """100 steps on the same batches, with the penalty of the rows of a batch."""
    sets = f"movielens-100k,stream:{encoded}"
    one, three = tmp_path / "one.json", tmp_path / "three.json"
    script = ["-m", "tests.one_of_many", sets]
    with tasks(tmp_path / "logs") as running:
        running.start(configs(chief=1, worker=2), [*script, str(three), "together"])
        alone = [sys.executable, *script, str(one), "alone", "3"]
        subprocess.run(alone, check=True, timeout=240)
        assert set(running.ended(240).values()) == {0}, running.said()
    want, got = json.loads(one.read_text()), json.loads(three.read_text())
    for name in want:
        assert len(got[name]) == 100
        np.testing.assert_allclose(got[name], want[name], atol=1e-4)
        assert np.mean(got[name][-20:]) < np.mean(got[name][:20])


@keras3
def test_a_worker_that_is_killed_costs_the_steps_since_the_last_checkpoint(encoded, tmp_path):
    out = tmp_path / "run"
    train = f"train FM --data stream:{encoded} --strategy multi_worker --batch-size 48"
    train += f" --epochs 2 --checkpoint-steps 40 --out {out} --resume-or-begin"
    command = [*RECOPS, *train.split()]

    def kept():
        history = out / "history.json"
        return json.loads(history.read_text()) if history.exists() else {}

    with tasks(tmp_path / "logs") as running:
        running.start(configs(chief=1, worker=2), command)
        end = time.monotonic() + 200
        while (kept().get("halfway") or {}).get("epoch") != 2:
            assert time.monotonic() < end, running.said()
            assert running.running["chief 0"].poll() is None, running.said()
            time.sleep(0.02)
        running.kill(["worker 1"])
        codes = running.ended(90, ["chief 0", "worker 0"])
        assert set(codes.values()) == {75}, running.said()
        assert "another task of the training is gone" in running.said()
        before = kept()
        assert [epoch["epoch"] for epoch in before["epochs"]] == [1]
        assert before["halfway"]["step"] % 40 == 0
        running.start(configs(chief=1, worker=2), command)
        assert set(running.ended(200).values()) == {0}, running.said()
    after = kept()
    assert after["epochs"][0] == before["epochs"][0]
    assert len(after["epochs"]) == 2
    assert "halfway" not in after
    names = {path.name for path in out.rglob("*") if path.is_file()}
    assert names <= {"history.json", "model.keras", "epoch-0001.keras", "epoch-0002.keras"}
    assert tf.keras.models.load_model(out / "model.keras").count_params() > 0


@keras3
@pytest.mark.parametrize("alone", [True, False])
def test_a_run_goes_on_within_an_epoch(alone, tmp_path, monkeypatch):
    """As an unbroken run with the same checkpoints would, dropout included."""
    from recops.training.runs import Run
    from tests import small_run

    if not alone:
        plain, strategy = small_run.model, tf.distribute.MirroredStrategy(["CPU:0"])

        def under_a_strategy():
            with strategy.scope():
                return plain()

        monkeypatch.setattr(small_run, "model", under_a_strategy)
    options = {"epochs": 2, "checkpoint_steps": 10}
    unbroken = run(tmp_path / "unbroken", **options)

    whole = Run.commit_step

    def broken(self, model, place):
        whole(self, model, place)
        if (place["epoch"], place["step"]) == (2, 20):
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "commit_step", broken)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", **options)
    monkeypatch.undo()
    if not alone:
        monkeypatch.setattr(small_run, "model", under_a_strategy)
    resumed = run(tmp_path / "run", resume=True, **options)
    got, want = small_run.figures(resumed), small_run.figures(unbroken)
    for mine, other in zip(got, want):
        assert mine == pytest.approx(other, abs=1e-6)
    names = [sorted(p.name for p in out.rglob("*.keras")) for out in (resumed.out, unbroken.out)]
    assert names[0] == names[1]


TASK = '"task": {"type": "worker", "index": 0}'


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("", "TF_CONFIG is not set; give each task its own"),
        ("{", "TF_CONFIG cannot be read"),
        ("[]", "TF_CONFIG cannot be read"),
        ('{"cluster": {"worker": ["a:1"]}}', "TF_CONFIG cannot be read .lacks 'task'"),
        ('{"cluster": {"worker": ["a"]}, ' + TASK + "}", "expected an address host:port, got 'a'"),
        ('{"cluster": {"worker": ["a:70000"]}, ' + TASK + "}", "host:port, got 'a:70000'"),
        ('{"cluster": {"worker": ["a:1", "a:1"]}, ' + TASK + "}", "a:1 is there twice"),
        ('{"cluster": {"boss": ["a:1"]}, ' + TASK + "}", "unknown job 'boss'"),
        ('{"cluster": {"chief": ["a:1", "b:1"]}, ' + TASK + "}", "there is one chief, got 2"),
        ('{"cluster": {"chief": ["a:1"]}, ' + TASK + "}", "the task worker 0 is not in"),
        ('{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, ' + TASK + "}", "has no job 'ps'"),
    ],
)
def test_a_config_that_does_not_fit_is_a_sentence(config, expected, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ValueError, match=expected):
        team_of("multi_worker", 0.1)


def test_a_port_in_use_and_a_worker_that_never_comes(monkeypatch):
    config = configs(worker=2)["worker 0"]
    monkeypatch.setenv("TF_CONFIG", config)
    found = cluster.from_environment()
    with pytest.raises(ValueError, match=r"worker 1 \(127.0.0.1:\d+\) did not come within 0.3 s"):
        found.wait(0.3)
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(found.own.rpartition(":")[2])))
        other.listen()
        with pytest.raises(ValueError, match=r"port .* cannot be opened .Address already in use"):
            found.wait(0.3)


def test_processes_that_wait_for_each_other_all_go_on(monkeypatch):
    import threading

    places = ports(3)
    addresses = {"worker": tuple(f"127.0.0.1:{port}" for port in places)}
    errors = []

    def wait(index):
        time.sleep(0.3 * index)
        try:
            cluster.Cluster(addresses, "worker", index).wait(10)
            # TensorFlow takes the port.
            with socket.create_server(("127.0.0.1", places[index])):
                time.sleep(1.5)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=wait, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


@keras3
def test_a_batch_must_be_shared_out_evenly(monkeypatch):
    from recops.training.team import Team

    class Three(Team):
        replicas = 3

    with pytest.raises(ValueError, match="a batch of 2 rows is smaller than the 3 replicas"):
        Three().check(2)
    with pytest.raises(ValueError, match=r"multiple of the 3 replicas, got 64; take 63 or 66"):
        Three().check(64)
    Three().check(63)


def test_a_folder_has_one_writer(tmp_path):
    """A second process that goes on with a run which the first still writes is told so."""
    from recops.training.runs import opened

    with (
        opened(tmp_path / "run", {}, False),
        pytest.raises(ValueError, match=r"another process trains into .*run; wait for it"),
        opened(tmp_path / "run", {}, True),
    ):
        pass
    with opened(tmp_path / "run", {}, True):
        pass


def test_the_command_says_one_sentence():
    code, err = said("train FM --strategy many")
    assert code == 2
    assert err.splitlines()[-1].startswith("recops: train: strategy must be one of none, mirrored")
    code, err = said("train FM --strategy multi_worker --wait 1", TF_CONFIG="{")
    assert code == 2
    assert err.splitlines()[-1].startswith("recops: TF_CONFIG cannot be read")
    assert "Traceback" not in err
