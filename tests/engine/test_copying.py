"""Copies of an index's files: whole and of one moment, whatever is written in between."""

import contextlib
import os
import random
import sqlite3
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import closing
from pathlib import Path
from types import TracebackType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextk.engine import copying
from nextk.engine.copying import CopySource, FileState, copy_files, one_moment
from nextk.engine.journal import header_of, path_beside
from nextk.errors import ClientError

BATCH = 7
PAGE = 512  # bytes
MARK = 0x2BCDEF02  # a user_version with a mark above the format


class Writer:
    """A process that writes to a database as the engine does, but at moments that a test chooses.

    Every transaction stores a batch of rows of one number, changes older rows, and writes the first page.

    Attributes:
        path: The main file.
        done: The number of batches whose commit has returned.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done = 0
        self._moving: list[tuple[int, bytes]] = []  # the pages that a checkpoint under way has yet to move
        self._chance = random.Random(7)  # noqa: S311 - no secret depends on it
        self._connection = sqlite3.connect(path, isolation_level=None)
        for statement in (
            f"PRAGMA page_size = {PAGE}",
            "PRAGMA locking_mode = EXCLUSIVE",
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = OFF",
            "PRAGMA wal_autocheckpoint = 0",
            "CREATE TABLE records (number INTEGER PRIMARY KEY, batch INTEGER, changed INTEGER, data BLOB)",
        ):
            self._connection.execute(statement)
        for _ in range(3):
            self.write()
        self.checkpoint()

    def write(self) -> None:
        """Commit the next batch, unless a checkpoint is under way: both are done by one connection."""
        if self._moving:
            return
        batch = self.done + 1
        self._connection.execute("BEGIN")
        self._connection.execute(f"PRAGMA user_version = {MARK}")
        for _ in range(BATCH):
            data = b"x" * self._chance.randrange(300)
            self._connection.execute(
                "INSERT INTO records (batch, changed, data) VALUES (?, ?, ?)", (batch, batch, data)
            )
        old = 1 + self._chance.randrange(batch)
        self._connection.execute("UPDATE records SET changed = ? WHERE batch = ?", (batch, old))
        self._connection.execute("COMMIT")
        self.done = batch

    def checkpoint(self) -> None:
        """Move the journal into the main file, and empty it."""
        self._moving = []
        assert [(0, 0, 0)] == self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def checkpoint_step(self) -> None:
        """Begin a checkpoint and move its first page, or move the next one, or end it."""
        if not self._moving:
            self._moving = sorted(pages_of(path_beside(self.path)).items())
        if self._moving:
            number, content = self._moving.pop(0)
            with self.path.open("r+b") as main:
                main.seek((number - 1) * PAGE)
                main.write(content)
        if not self._moving:
            self.checkpoint()

    def close(self) -> None:
        """Close the database."""
        self._connection.close()


def pages_of(journal: Path) -> dict[int, bytes]:
    """The latest content of every page in a journal whose last transaction is committed."""
    content, frame = journal.read_bytes(), 24 + PAGE
    pages: dict[int, bytes] = {}
    for start in range(32, len(content) - frame + 1, frame):
        if content[start + 8 : start + 16] == content[16:24]:  # of the present journal, as its salts say
            pages[int.from_bytes(content[start : start + 4], "big")] = content[start + 24 : start + frame]
    return pages


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """A database that is open for writing."""
    with closing(Writer(tmp_path / "index")) as opened:
        yield opened


class Lock:
    """A lock that knows whether it is held."""

    def __init__(self) -> None:
        self.depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.depth -= 1


@contextlib.contextmanager
def source_of(
    writer: Writer, lock: contextlib.AbstractContextManager[object] | None = None, attempts: int = 1
) -> Iterator[CopySource]:
    """The files of a writer, for a copy in so many attempts without the lock and one with it."""
    with writer.path.open("rb", buffering=0) as opened:
        yield CopySource(writer.path, opened.fileno, lock or contextlib.nullcontext(), [0.0] * attempts)


def batches_in(copy: Path) -> int:
    """The number of batches in a copy, which is intact and holds them whole, from the first to the last one."""
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        assert [("ok",)] == connection.execute("PRAGMA integrity_check").fetchall()
        batches = connection.execute("SELECT batch, count(*), max(changed) FROM records GROUP BY batch").fetchall()
    last = len(batches)
    assert [(number, BATCH) for number in range(1, last + 1)] == [(number, count) for number, count, _ in batches]
    assert last == max(changed for _, _, changed in batches)
    return last


def during_the_copy(events: Callable[[], object]) -> Callable[[], bool]:
    """A function that a copy calls before each part, which does something then. The copy is always wanted."""

    def abandoned() -> bool:
        events()
        return False

    return abandoned


def copy_amid(plan: Sequence[str], folder: Path) -> None:
    """Copy an index while it is written, and check the copy.

    Args:
        plan: The steps of the writer before the copy begins, and then before each part of a page that is copied:
            "w" writes, "s" is a step of a checkpoint, and "c" a whole one. There is none while the lock is held.
        folder: An empty folder.
    """
    lock, events = Lock(), iter(plan)
    with closing(Writer(folder / "index")) as writer, pytest.MonkeyPatch.context() as patch:
        patch.setattr(copying, "_CHUNK", PAGE)
        steps = {"w": writer.write, "s": writer.checkpoint_step, "c": writer.checkpoint}

        def next_event() -> None:
            if lock.depth == 0:
                for step in next(events, ""):
                    steps[step]()

        next_event()
        before = writer.done
        with source_of(writer, lock, attempts=2) as source:
            copy_files(source, folder / "copy", during_the_copy(next_event))
        assert before <= batches_in(folder / "copy") <= writer.done


@settings(max_examples=60)
@given(plan=st.lists(st.sampled_from(["", "w", "w", "s", "s", "ss", "c", "wc", "cw", "wwss", "cwc"]), max_size=60))
def test_writes_and_checkpoints_at_any_moment(tmp_path_factory: pytest.TempPathFactory, plan: Sequence[str]) -> None:
    """A copy holds all that was committed before it began, and is the state after one of the commits."""
    copy_amid(plan, tmp_path_factory.mktemp("copy"))


def test_a_journal_that_is_emptied_while_it_is_copied(tmp_path: Path) -> None:
    """A journal is not copied by half, though the checkpoint that empties it began before the copy did."""
    for part in range(12):
        folder = tmp_path / str(part)
        folder.mkdir()
        copy_amid(["wwws", *[""] * part, "c"], folder)


def test_the_last_attempt_has_the_lock(writer: Writer, tmp_path: Path) -> None:
    """A copy of an index that is written all the time is made with the lock, and only then."""
    lock, copy = Lock(), tmp_path / "copy"

    def write() -> None:
        if lock.depth == 0:
            writer.write()
            writer.checkpoint()

    with source_of(writer, lock) as source:
        copy_files(source, copy, during_the_copy(write))
    assert 3 < batches_in(copy) <= writer.done


def test_written_too_often(writer: Writer, tmp_path: Path) -> None:
    """From outside, without the lock, a copy that is never whole is an error that says what to do."""

    def write() -> None:
        writer.write()
        writer.checkpoint()

    with source_of(writer) as source, pytest.raises(ClientError, match=r"written so often.*call Index\.backup in"):
        copy_files(source, tmp_path / "copy", during_the_copy(write))


@pytest.mark.parametrize("replaced", [True, False])
def test_a_file_that_is_gone(writer: Writer, tmp_path: Path, replaced: bool) -> None:
    """A file that is removed or replaced while it is copied is no index to copy, and the error says so."""
    other = tmp_path / "other"
    other.write_bytes(writer.path.read_bytes())

    def lose() -> None:
        writer.path.unlink(missing_ok=True)
        if replaced:
            writer.path.hardlink_to(other)

    with source_of(writer) as source, pytest.raises(ClientError, match="removed or replaced while it was open"):
        copy_files(source, tmp_path / "copy", during_the_copy(lose))


def test_nobody_wants_it(writer: Writer, tmp_path: Path) -> None:
    """A copy that nobody wants any more ends at the next part."""
    with source_of(writer) as source, pytest.raises(CancelledError):
        copy_files(source, tmp_path / "copy", lambda: True)


def test_nobody_else_may_read_a_copy_that_is_under_way(writer: Writer, tmp_path: Path) -> None:
    """Copies are made for their owner alone."""
    writer.write()
    with source_of(writer) as source:
        copy_files(source, tmp_path / "copy", lambda: False)
    assert {0o600} == {path.stat().st_mode & 0o777 for path in tmp_path.glob("copy*")}


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0", b"no database " * 100], ids=["empty", "short", "other"])
def test_no_database(tmp_path: Path, content: bytes) -> None:
    """A file that is no database is not copied."""
    path = tmp_path / "index"
    path.write_bytes(content)
    with path.open("rb") as opened, pytest.raises(ClientError, match="is not a nextk index"):
        copy_files(CopySource(path, opened.fileno, contextlib.nullcontext(), ()), tmp_path / "copy", lambda: False)
    assert not (tmp_path / "copy").exists()


# The decision


OLD, NEW = b"old header", b"new header"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param((OLD, b""), (OLD, b""), True, id="at rest"),
        pytest.param((OLD, b"1"), (OLD, b"1"), True, id="the journal grew, or did not change"),
        pytest.param((OLD, b""), (OLD, b"1"), True, id="the first write since the last checkpoint"),
        pytest.param((OLD, b"1"), (OLD, b""), False, id="a checkpoint that had begun before ended"),
        pytest.param((OLD, b"1"), (OLD, b"2"), False, id="and another write followed"),
        pytest.param((OLD, b""), (NEW, b""), False, id="a write and its checkpoint"),
        pytest.param((OLD, b"1"), (NEW, b"1"), False, id="a checkpoint began"),
        pytest.param((OLD, b"1"), (NEW, b""), False, id="a checkpoint began and ended"),
    ],
)
def test_one_moment(before: tuple[bytes, bytes], after: tuple[bytes, bytes], expected: bool) -> None:
    """Copies are of one moment unless a checkpoint began, or the copied journal was emptied, in between."""
    assert expected == one_moment(FileState(*before), FileState(*after))


# Journals


def test_a_stale_journal_is_not_copied(writer: Writer, tmp_path: Path) -> None:
    """A journal of another file is not taken for a part of the index; the error says how to go on."""
    writer.write()
    restored = bytearray(writer.path.read_bytes())
    restored[60:64] = struct.pack(">I", MARK ^ 0x100)
    writer.path.write_bytes(restored)
    with source_of(writer) as source, pytest.raises(ClientError, match=r"belongs to another file.*Open the index once"):
        copy_files(source, tmp_path / "copy", lambda: False)


@pytest.mark.parametrize(
    "content", [None, b"", b"\x37\x7f\x06\x82", bytes(4096)], ids=["none", "empty", "cut", "zeros"]
)
def test_a_journal_without_pages(tmp_path: Path, content: bytes | None) -> None:
    """A journal at rest is not there, is empty, or is filled with zeros that reserve room on the disk."""
    path = tmp_path / "index-wal"
    if content is not None:
        path.write_bytes(content)
    assert b"" == header_of(path)


def test_a_reserve_behind_the_journal(writer: Writer, tmp_path: Path) -> None:
    """Zeros behind the pages of a journal change nothing."""
    writer.write()
    with path_beside(writer.path).open("ab") as journal:
        journal.write(bytes(8192))
    with source_of(writer) as source:
        copy_files(source, tmp_path / "copy", lambda: False)
    assert writer.done == batches_in(tmp_path / "copy")
    os.truncate(path_beside(writer.path), path_beside(writer.path).stat().st_size - 8192)
