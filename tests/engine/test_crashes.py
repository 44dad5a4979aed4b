"""Crashes between any two steps of the storage, and journals that were written in part.

A crash is simulated by a copy of the files as they are on the disk at a moment. Opened elsewhere, it holds exactly what
was acknowledged until then, with or without the whole of the write that was under way.
"""

import contextlib
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import pytest

from nextk.engine.engine import EmbeddedEngine
from tests.support import format_one
from tests.support.faulty_connection import plan_steps
from tests.support.format_one import OldRecord
from tests.support.stored_states import PREPARATION, START, WRITES, State, Stored, observed, open_stored, opened
from tests.support.write_ahead_log import end_of_commits, frames

SEQUENCE = ["new", "replaced", "both", "namespace", "texts", "fields", "text", "ids", "schema", "reset", "replace"]
"""Writes that can follow each other."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file in the state `START`."""
    path = tmp_path / "index"
    with closing(opened(path)) as engine:
        for write in PREPARATION:
            write.run(engine)
    return path


def journal_of(path: Path) -> Path:
    """The path of the journal of an index."""
    return path.with_name(f"{path.name}-wal")


class Disk:
    """The files of an index that is open.

    The file of the index is read by a descriptor that stays open: to close one would end the locks of the process.

    Args:
        path: The file of the index, before it is opened.
        folder: The folder in which copies are made.
        open_copy: Opens a copy. Default: as an index that embeds texts.
    """

    def __init__(self, path: Path, folder: Path, open_copy: Callable[[Path], EmbeddedEngine] = opened) -> None:
        self._path, self._folder, self._open_copy = path, folder, open_copy
        self._descriptor = os.open(path, os.O_RDONLY)
        self._known: dict[tuple[bytes, bytes], list[Any]] = {}

    def close(self) -> None:
        """Close the descriptor, once the index is closed."""
        os.close(self._descriptor)

    def contents(self) -> tuple[bytes, bytes]:
        """Return what is in the file of the index and in its journal."""
        journal = journal_of(self._path)
        size = os.fstat(self._descriptor).st_size
        return os.pread(self._descriptor, size, 0), journal.read_bytes() if journal.exists() else b""

    def held(self, main: bytes, journal: bytes) -> list[Any]:
        """Write two files with these contents, open them, and return what they hold."""
        if (main, journal) not in self._known:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir()
            copy = self._folder / self._path.name
            copy.write_bytes(main)
            if journal:
                journal_of(copy).write_bytes(journal)
            with closing(self._open_copy(copy)) as engine:
                self._known[main, journal] = observed(engine)
        return self._known[main, journal]


@contextlib.contextmanager
def running(path: Path, folder: Path) -> Iterator[tuple[EmbeddedEngine, Disk]]:
    """Open an index whose journal comes to rest at the end alone, and yield its engine and its files."""
    with closing(Disk(path, folder)) as disk, closing(opened(path)) as engine:
        engine._storage.after_commit = lambda: None
        yield engine, disk


def test_between_any_two_steps(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies before any step leaves what was acknowledged, with or without the write under way."""
    plan = plan_steps(monkeypatch)
    with running(path, tmp_path / "copies") as (engine, disk):
        engine._storage._connection.execute("PRAGMA cache_size = 1")  # pages reach the journal before the commit
        crashes: list[tuple[tuple[bytes, bytes], list[list[Any]]]] = []
        state = START
        for name in SEQUENCE:
            after = WRITES[name].after(state)
            allowed = [state.listed(), after.listed()]
            with plan.observed(lambda: crashes.append((disk.contents(), allowed))):  # noqa: B023 - called at once
                WRITES[name].run(engine)
            state = after
            crashes.append((disk.contents(), [state.listed()]))
        with plan.observed(lambda: crashes.append((disk.contents(), [state.listed()]))):
            assert engine._rest()
        for contents, allowed in crashes:
            assert disk.held(*contents) in allowed
        assert len(crashes) > 5 * len(SEQUENCE)


@dataclass(frozen=True)
class WrittenJournal:
    """An index whose writes are all in its journal.

    Attributes:
        disk: Its files.
        main: What is in the file of the index, which lacks the writes.
        journal: What was in the journal after them.
        ends: The position in the journal behind each write, ascending, and the state after it.
    """

    disk: Disk
    main: bytes
    journal: bytes
    ends: Sequence[tuple[int, list[Any]]]

    def state_at(self, size: int) -> list[Any]:
        """Return the state after the last write that is whole in the first bytes of the journal."""
        return [state for end, state in self.ends if end <= size][-1]


class TestJournal:
    """A journal of which the disk has not all, or not as it was written."""

    @pytest.fixture
    def written(self, path: Path, tmp_path: Path) -> Iterator[WrittenJournal]:
        """The journal of the writes."""
        with running(path, tmp_path / "copies") as (engine, disk):
            state, ends = START, [(0, START.listed())]
            for name in SEQUENCE:
                WRITES[name].run(engine)
                state = WRITES[name].after(state)
                main, journal = disk.contents()
                ends.append((end_of_commits(journal), state.listed()))
            assert len({end for end, _ in ends}) == len(ends)
            yield WrittenJournal(disk, main, journal, ends)

    def test_cut_off(self, written: WrittenJournal) -> None:
        """A journal that ends anywhere holds every write that is whole in it, and nothing of the next one."""
        size = len(written.journal)
        edges = {end + step for end, _ in written.ends for step in (-1, 0, 1) if 0 <= end + step <= size}
        inside = random.Random(1).sample(range(size), 30)  # noqa: S311 - no secret depends on it
        for cut in sorted(edges.union(inside)):
            assert written.state_at(cut) == written.disk.held(written.main, written.journal[:cut]), cut

    def test_overwritten(self, written: WrittenJournal) -> None:
        """A journal with a frame that is wrong by a bit, or of zeros from there on, holds every write before it."""
        dice = random.Random(2)  # noqa: S311 - no secret depends on it
        for begin, end, _ in dice.sample(list(frames(written.journal)), 12):
            flipped = bytearray(written.journal)
            flipped[dice.randrange(begin, end)] ^= 1 << dice.randrange(8)
            zeros = written.journal[:begin].ljust(len(written.journal), bytes(1))
            for journal in (bytes(flipped), zeros):
                assert written.state_at(begin) == written.disk.held(written.main, journal), begin


def test_in_mid_checkpoint(path: Path, tmp_path: Path) -> None:
    """A process that dies while the journal is copied into the file leaves all that was acknowledged."""
    with running(path, tmp_path / "copies") as (engine, disk):
        state = START
        for name in SEQUENCE:
            WRITES[name].run(engine)
            state = WRITES[name].after(state)
        before, journal = disk.contents()
        engine._storage._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        after, _ = disk.contents()
        assert before != after
        dice = random.Random(3)  # noqa: S311 - no secret depends on it
        for cut in [0, *dice.sample(range(len(after)), 20), len(after)]:
            assert state.listed() == disk.held(after[:cut] + before[cut:], journal), cut


def test_in_mid_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies while a file of format 1 is converted leaves one that can be opened and holds everything."""
    records = {"a": Stored((1.0, 0.0), {"n": 1}, "text"), "b": Stored((0.0, 1.0))}
    path, plan = tmp_path / "index", plan_steps(monkeypatch)
    format_one.write(path, [OldRecord("", id_, *astuple(record)) for id_, record in records.items()])
    with closing(Disk(path, tmp_path / "copies", open_stored)) as disk:
        crashes = []
        with plan.observed(lambda: crashes.append(disk.contents())):
            open_stored(path).close()
        crashes.append(disk.contents())
        for contents in crashes:
            assert State({"": records}).listed() == disk.held(*contents)
    assert len(set(crashes)) > 3
