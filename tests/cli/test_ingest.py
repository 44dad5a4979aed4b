"""Reading a folder into an index when something comes in between: an interruption, an error, unreadable files."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nextk import Index
from nextk.cli import corpus, ingest, writing
from nextk.cli.main import main
from nextk.errors import RefusedError

SPOKEN = """
import sys
from nextk.cli import ingest
from nextk.cli.main import main
ingest._SILENCE = 0.0
sys.exit(main())
"""
"""The program, which tells of every file that it reads."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees the user's own folders or terminal."""
    for name, value in (("HOME", tmp_path), ("NEXTK_HOME", tmp_path / "nextk"), ("COLUMNS", 120)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(writing, "_BATCH", 2)
    return tmp_path / "nextk"


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A folder of six files, each with one passage."""
    folder = tmp_path / "notes"
    folder.mkdir()
    for letter in "abcdef":
        (folder / f"{letter}.md").write_text(f"Everything about the letter {letter}.")
    return folder


def stored(home: Path) -> list[str]:
    """The ids in the default index."""
    with Index.embedded(home / "default.nextk") as index:
        return sorted(record.id for record in index.range(limit=100).vectors)


class Interrupter:
    """Raises an error when a function is called for a certain time.

    Args:
        monkeypatch: Undoes it after the test.
        owner: The object whose function is replaced.
        name: The name of the function.
        call: The number of the call that fails, counted from 1.
        error: The error.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, call: int, error: BaseException
    ) -> None:
        self.calls = 0
        replaced = getattr(owner, name)

        def function(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == call:
                raise error
            return replaced(*arguments, **options)

        monkeypatch.setattr(owner, name, function)


@pytest.mark.parametrize(
    ("owner", "name", "call", "last", "count"),
    [
        (corpus, "_text_of", 1, "a.md", 0),
        (corpus, "_text_of", 6, "f.md", 4),
        (Index, "upsert", 1, "b.md", 0),
        (Index, "upsert", 3, "f.md", 4),
        (writing, "remove", 1, "f.md", 6),
        (Index, "close", 1, "f.md", 6),
    ],
    ids=["first file", "last file", "first batch", "last batch", "removal", "end"],
)
def test_an_interruption_says_what_is_kept(
    owner: object,
    name: str,
    call: int,
    last: str,
    count: int,
    notes: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Ctrl-C ends with code 130 and one line that names the last file, what is stored, and that one may go on."""
    with monkeypatch.context() as patch:
        Interrupter(patch, owner, name, call, KeyboardInterrupt())
        assert 130 == main(["ingest", str(notes)])
    kept = (
        f"Stored in ~/nextk/default.nextk: {count} passages of {count} files. "
        "Run the command again: it replaces them and stores the rest"
        if count
        else "Nothing is stored yet. Run the command again to start anew"
    )
    assert f"\nnextk: interrupted. The last file was {last}. {kept}\n" == capsys.readouterr().err
    if name != "close":  # else the index is still open in this process
        assert [f"notes/{letter}.md" for letter in "abcdef"[:count]] == stored(home)
    assert 0 == main(["ingest", str(notes)])
    assert [f"notes/{letter}.md" for letter in "abcdef"] == stored(home)


def test_an_interruption_before_anything_was_read_promises_nothing(
    notes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C while the index is being opened says no more than that."""
    Interrupter(monkeypatch, Index, "embedded", 1, KeyboardInterrupt())
    assert 130 == main(["ingest", str(notes)])
    assert "\nnextk: interrupted\n" == capsys.readouterr().err


def test_a_real_interruption(notes: Path, home: Path) -> None:
    """A process that gets the signal ends without a traceback, and its index can be filled by the next one."""
    for number in range(2_000):
        (notes / f"n{number}.md").write_text(f"Note {number}.\n\n" * 200)
    command = [sys.executable, "-c", SPOKEN, "ingest", str(notes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own program
        assert process.stderr is not None
        assert "nextk: 0 passages stored, reading a.md\n" == process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (130, "") == (process.returncode, out)
    assert "nextk: interrupted. The last file was " in err
    assert "Traceback" not in err
    assert len(stored(home)) < 2_000


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RefusedError("record 1: no", 422), "record 1: no"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
    ],
    ids=["refused", "system"],
)
def test_an_error_names_the_file(
    error: Exception, text: str, notes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error in the middle of the work comes with the file that was read last, and with what is stored."""
    Interrupter(monkeypatch, Index, "upsert", 2, error)
    assert 2 == main(["ingest", str(notes)])
    said = capsys.readouterr().err
    assert said.startswith(f"nextk: {text}. The last file was d.md. Stored in ~/nextk/default.nextk: 2 passages of 2")
    assert 1 == said.count("\n")


def test_progress_on_a_terminal(
    notes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A terminal shows the file under work beside the progress bar, by the end of its path if that is long."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    (notes / f"{'long' * 20}-last.md").write_text("The last one.")
    assert 0 == main(["ingest", str(notes)])
    shown = capsys.readouterr().err
    assert "-last.md" in shown
    assert "long" * 20 not in shown


def test_progress_without_a_terminal(
    notes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no terminal can show a bar, a line on stderr tells now and then how far the work is, but not at once."""
    assert 0 == main(["ingest", str(notes)])
    assert "" == capsys.readouterr().err
    monkeypatch.setattr(ingest, "_SILENCE", 0.0)
    assert 0 == main(["ingest", str(notes)])
    assert [
        f"nextk: {number // 2 * 2} passages stored, reading {letter}.md" for number, letter in enumerate("abcdef")
    ] == capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_cannot_be_read_is_not_taken_for_removed(
    what: str, notes: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The passages of a file or folder stay in the index while the system does not let us read it."""
    (notes / "sub").mkdir()
    (notes / "sub" / "s.md").write_text("Everything below.\n\n" + "word " * 400)
    assert 0 == main(["ingest", str(notes)])
    (notes / "a.md").unlink()
    before = stored(home)
    denied, called = {"file": (corpus, "_text_of"), "folder": (os, "scandir")}[what], {"file": 6, "folder": 2}[what]
    with monkeypatch.context() as patch:
        error = PermissionError(13, "Permission denied", str(notes / "sub"))
        Interrupter(patch, *denied, called, error)
        capsys.readouterr()
        assert 0 == main(["ingest", str(notes)])
    out = capsys.readouterr().out
    assert "1 outdated removed" in out
    assert f"skipped 1 (Permission denied): sub{'/s.md' if what == 'file' else ''}" in out
    assert sorted({*before} - {"notes/a.md"}) == stored(home)


def test_a_folder_that_holds_the_index(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The files of the index that is being filled are no files of the folder, neither read nor reported."""
    (notes / "other.nextk").touch()
    for name in ("own.md", "own.nextk"):
        for _ in range(2):
            assert 0 == main(["ingest", str(notes), "--index", str(notes / name)])
            skipped = [line for line in capsys.readouterr().out.splitlines() if line.startswith("skipped")]
            assert ["skipped 1 (not one of .md .py .rst .txt): other.nextk"] == skipped
        (notes / name).unlink()


def test_a_path_that_is_not_utf_8(tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder below one whose name is not UTF-8 is read, and read again; its root is kept as text."""
    root = tmp_path / os.fsdecode(b"caf\xe9") / "notes"
    root.mkdir(parents=True)
    (root / "a.md").write_text("Some text.")
    for _ in range(2):
        assert 0 == main(["ingest", str(root)])
    assert ["notes/a.md"] == stored(home)
    with Index.embedded(home / "default.nextk") as index:
        (record,) = index.fetch(["notes/a.md"], include_metadata=True)
        assert record is not None
        assert f"{tmp_path}/caf\\xe9/notes" == (record.metadata or {})["root"]
