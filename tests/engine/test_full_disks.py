"""Disks that take no more: writes that end short, anywhere, and a file system that is full."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nextk import Index
from tests.support.subprocesses import output, python

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of files, or a file system")

SHORT = """
import resource, sys
from pathlib import Path
from nextk import Index
from nextk.errors import RefusedError
from tests.support.write_ahead_log import end_of_commits

path = Path(sys.argv[1])
journal = path.with_name(path.name + "-wal")
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

def batch(number):
    return [(f"{number}-{n}", [n, 1.0], {"batch": number}, "x" * 3_000) for n in range(3)]

def stored():
    vectors = index.range("", 1_000, include_metadata=True, include_data=True).vectors
    assert {"x" * 3_000} == {record.data for record in vectors}
    assert {record.id for record in vectors} == {match.id for match in index.query([1.0, 1.0], 1_000)}
    return sorted(record.id for record in vectors)

index = Index.embedded(path, type="dense", dimension=2)
index.upsert(batch(0))
number, allowed, refused = 1, 1, 0
while number < 3:
    before = stored()
    limit(end_of_commits(journal.read_bytes()) + allowed)
    try:
        index.upsert(batch(number))
    except RefusedError as error:
        limit(hard)
        assert (500, True) == (error.status, "the disk failed" in str(error)), error
        assert before == stored()
        refused += 1
        allowed += 1_999
    else:
        limit(hard)
        number, allowed = number + 1, 500
        assert sorted(before + [id_ for id_, *_ in batch(number - 1)]) == stored()
index.upsert(batch(number))
assert refused > 10
if sys.argv[2] == "close":
    limit(path.stat().st_size)  # the journal cannot be copied into the file
    index.close()
    limit(hard)
print(number, flush=True)
import os, signal
os.kill(os.getpid(), signal.SIGKILL)
"""


@linux
@pytest.mark.parametrize("ends", ["killed", "close"])
def test_writes_that_end_short(tmp_path: Path, ends: str) -> None:
    """A write that the disk cuts off anywhere is refused and changes nothing, and the next one succeeds.

    All that was acknowledged is there in the end, even if the process is killed, or cannot close the file.
    """
    path = tmp_path / "index"
    with python(SHORT, path, ends) as process:
        printed, complaints = process.communicate()
    assert "" == complaints
    with Index.embedded(path) as index:
        found = index.range("", 1_000).vectors
        assert [f"{batch}-{n}" for batch in range(int(printed) + 1) for n in range(3)] == [each.id for each in found]


FULL = """
import subprocess, sys
from pathlib import Path
folder = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], check=True)
from nextk import Index
from nextk.errors import ClientError, RefusedError

def stored():
    return sorted(record.id for record in index.range("", 1_000).vectors)

path = folder / "index"
index = Index.embedded(path, type="dense", dimension=2)
acknowledged = []
for n in range(1_000):
    batch = [(f"{n}-{m}", [n, m + 1.0], {"n": n}, "x" * 4_000) for m in range(5)]
    try:
        index.upsert(batch)
    except RefusedError as error:
        assert (507, True) == (error.status, "the disk is full" in str(error)), error
        break
    acknowledged += [id_ for id_, *_ in batch]
assert 0 < n < 999
for _ in range(2):
    assert sorted(acknowledged) == stored()
    assert sorted(acknowledged) == sorted(match.id for match in index.query([1.0, 1.0], 1_000))
    index.close()
    index = Index.embedded(path)
try:
    Index.embedded(folder / "other", type="dense", dimension=2).close()
except ClientError as error:
    assert "the disk is full" in str(error), error
else:
    raise AssertionError("the disk is not full")
index.close()
print(len(acknowledged))
"""


OWN_MOUNTS = ("unshare", "--map-root-user", "--mount")
"""The command that starts a process which may mount file systems that no other process sees."""


def may_mount() -> bool:
    """Whether this machine lets a process have file systems of its own."""
    command = [*OWN_MOUNTS, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if shutil.which("unshare") is None:
        return False
    return 0 == subprocess.run(command, capture_output=True, check=False).returncode  # noqa: S603 - our own command


@linux
def test_full_file_system(tmp_path: Path) -> None:
    """On a full disk a write is refused with 507 and changes nothing; reading, closing and opening go on.

    A new index is not made there, and the error says why.
    """
    if not may_mount():
        pytest.skip("this machine does not let a process mount a file system")
    assert int(output(FULL, tmp_path, under=OWN_MOUNTS)) > 0
