"""`nextk backup`: what it copies, what it prints, and how it ends."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from nextk import Index
from nextk.cli.main import main
from nextk.errors import ClientError
from tests.support.subprocesses import python

SERVE = """
import sys
from nextk.cli.main import main
sys.exit(main(["serve", "--port", "0", "--quiet", "--data", sys.argv[1], "--index", "notes=dense,dimension=1"]))
"""

SLOW = """
import sys, time
from nextk.cli.main import main
from nextk.engine import backup
def wait(*_):
    print("copied", flush=True)
    time.sleep(60)
backup._complete = wait
sys.exit(main(["backup", sys.argv[2], "--index", sys.argv[1]]))
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the indexes. No test sees the user's own folders, tokens or terminal."""
    for name in ("NEXTK_DEBUG", "NEXTK_TOKEN", "NEXTK_READ_ONLY_TOKEN", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("HOME", tmp_path), ("NEXTK_HOME", tmp_path / "nextk"), ("COLUMNS", 40)):
        monkeypatch.setenv(name, str(value))
    (tmp_path / "nextk").mkdir()
    return tmp_path / "nextk"


def lengths(texts: list[str]) -> list[list[float]]:
    """A text model of the caller's own."""
    return [[float(len(text))] for text in texts]


def fill(path: Path, *ids: str) -> Path:
    """Store texts under these ids in an index that has a model of the caller's own, and close it."""
    with Index.embedded(path, embedding=lengths) as index:
        index.upsert([(id_, f"about {id_}") for id_ in ids])
    return path


def stored(path: Path) -> list[str]:
    """The ids of the records in an index that `fill` has made."""
    with Index.embedded(path, embedding=lengths) as index:
        return [record.id for record in index.range(limit=1_000).vectors]


def test_a_copy_is_made_and_measured(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command needs no model, prints the records and bytes that it copied, and leaves the index as it was."""
    source = fill(home / "default.nextk", "a", "b", "c")
    before = source.read_bytes()
    assert main(["backup", str(tmp_path / "copy.nextk")]) == 0
    size = (tmp_path / "copy.nextk").stat().st_size
    assert capsys.readouterr().out == f"copied 3 records ({size:,} bytes) of ~/nextk/default.nextk to ~/copy.nextk\n"
    assert source.read_bytes() == before
    assert stored(tmp_path / "copy.nextk") == ["a", "b", "c"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.nextk", "nextk"]


def test_a_backup_of_before_is_kept_unless_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second backup to the same file needs `--overwrite`, and the error says so in one line."""
    source, target = fill(tmp_path / "notes.nextk", "a"), tmp_path / "copy.nextk"
    command = ["backup", str(target), "--index", str(source)]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("copied 1 record (")
    fill(source, "b")
    assert main(command) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "exists already" in err
    assert "--overwrite" in err
    assert stored(target) == ["a"]
    assert main([*command, "--overwrite"]) == 0
    assert stored(target) == ["a", "b"]


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_command_that_is_stopped_leaves_nothing(tmp_path: Path, sign: signal.Signals) -> None:
    """A backup that a user or a scheduler stops removes what it has copied so far."""
    source = fill(tmp_path / "notes.nextk", "a")
    before = sorted(path.name for path in tmp_path.iterdir())
    with python(SLOW, source, tmp_path / "copy.nextk") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "copied\n"
        assert len(list(tmp_path.glob("nextk-backup-*.partial"))) == 1
        process.send_signal(sign)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "\nnextk: interrupted\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve the indexes of a folder in a process of its own; the URL of the first one."""
    with python(SERVE, folder) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        try:
            yield (
                next(line for line in lines if line.startswith("export UPSTASH_VECTOR_REST_URL="))
                .partition("=")[2]
                .strip()
            )
        finally:
            process.terminate()
            process.communicate()


def test_an_index_that_is_served(tmp_path: Path) -> None:
    """An index is backed up while a server has it open and takes writes; each backup holds what was stored before."""
    source = tmp_path / "data" / "notes.nextk"
    with served(tmp_path / "data") as url, Index(url, "none") as index:
        for number in range(3):
            index.upsert([(f"{number}-{n}", [1.0]) for n in range(7)])
            target = tmp_path / f"copy-{number}.nextk"
            assert main(["backup", str(target), "--index", str(source)]) == 0
            with Index.embedded(target) as copy:
                assert 7 * (number + 1) == copy.info().vector_count
        with pytest.raises(ClientError, match="run `nextk backup URL TARGET`"):
            index.backup(tmp_path / "other.nextk")
        with pytest.raises(ClientError, match="held by another process"):
            Index.embedded(source)
        assert 21 == index.info().vector_count
