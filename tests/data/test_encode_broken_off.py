"""`encode` after a kill and on a full disk, and how much memory it takes: each in a process."""

import json
import shutil
import signal
import subprocess
import sys

import pytest

from recops.cli import main
from recops.data import DataError, stream
from tests.data.test_criteo_adult import FIRST
from tests.data.test_encode import ROWS, encoded, files, source, splits

pytest.importorskip("pyarrow")
__all__ = ["source"]


KILLED = """
import os, signal, sys
from recops.data import encode, shards
whole = shards.Segment.commit
def commit(segment):
    if segment.number == 2:
        segment._write("train", 1)
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(segment)
shards.Segment.commit = commit
encode(sys.argv[1], sys.argv[2], shard_rows=1000, memory=16, min_count=3, verbose=0)
"""


def test_killed_and_called_again_it_is_an_unbroken_one(source, tmp_path, monkeypatch):
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, f"criteo:{source}", str(out)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["segments"] == 2
    assert any(".writing" in name for name in files(out))
    with pytest.raises(DataError, match="was broken off; finish it by the same recops encode"):
        stream(out)
    with pytest.raises(ValueError, match="min_count 3, but now it is 4"):
        encoded(f"criteo:{source}", out, min_count=4)

    grown = source.with_name("grown.txt")
    shutil.copy(source, grown)
    again = json.loads((out / "manifest.json").read_text())
    again["options"]["source"] = f"criteo:{grown}"
    other = shutil.copytree(out, tmp_path / "other")
    (other / "manifest.json").write_text(json.dumps(again))
    grown.write_text(grown.read_text() + FIRST)
    with pytest.raises(DataError, match=r"has [\d,]+ bytes, but when .* was begun it had"):
        encoded(f"criteo:{grown}", other, min_count=3)

    learnt_again = []
    origins = __import__("recops.data.origins", fromlist=["learn"])
    monkeypatch.setattr(origins, "learn", lambda *args: learnt_again.append(args))
    encoded(f"criteo:{source}", out, min_count=3)
    assert not learnt_again
    monkeypatch.undo()
    encoded(f"criteo:{source}", tmp_path / "unbroken", min_count=3)
    assert files(out) == files(tmp_path / "unbroken")
    with pytest.raises(ValueError, match="already holds this set, whole"):
        encoded(f"criteo:{source}", out, min_count=3)


FULL = """
import resource, sys
from recops.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
sys.exit(main(["encode", sys.argv[1], sys.argv[2], "--hash-buckets", "1000"]))
"""


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(source, tmp_path):
    """A limit on the size of a file stands for the disk: the writes fail as there."""
    out = tmp_path / "out"
    command = [sys.executable, "-c", FULL, f"criteo:{source}", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr[-2000:]
    # The rest is TensorFlow's log.
    said = [line for line in done.stderr.splitlines() if "recops" in line or "encode" in line]
    assert len(said) == 1
    assert said[0].startswith(f"recops: encode: {out}: there is no space left; the shards that")
    assert sorted(files(out)) == ["encoder.json", "manifest.json"]
    assert main(["encode", f"criteo:{source}", str(out), "--hash-buckets", "1000"]) == 0
    assert sum(map(len, splits(stream(out)))) == ROWS


MEASURED = """
import resource, sys
from recops.data import encode
small, big, out, memory = sys.argv[1:]
options = dict(memory=int(memory), shard_rows=10**5, verbose=0)
encode(f"criteo:{small}", out + "-small", **options)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
encode(f"criteo:{big}", out + "-big", **options)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_file(source, tmp_path):
    megabytes = 8
    text = source.read_bytes()
    big = tmp_path / "big.txt"
    with big.open("wb") as file:
        for _ in range(-(-4 * megabytes * 2**20 // len(text))):
            file.write(text)
    assert big.stat().st_size >= 4 * megabytes * 2**20
    command = [sys.executable, "-c", MEASURED, str(source), str(big), str(tmp_path / "o")]
    done = subprocess.run([*command, str(megabytes)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) < megabytes * 1024
