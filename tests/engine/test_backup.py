"""Backups: a file that is an index by itself, whole and of one moment, made while the index is in use."""

import asyncio
import contextlib
import os
import sqlite3
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nextk import Index
from nextk.dispatch import COMMANDS
from nextk.engine import backup, copying
from nextk.engine.backup import back_up_file
from nextk.engine.engine import EmbeddedEngine
from nextk.errors import ClientError
from nextk.sessions import RetrievalSession, RowReader, SearchQuery
from nextk.testing import FaultPlan, faulty
from nextk.types import QueryResult, Vector
from tests.support import format_one
from tests.support.bare_engine import Rig
from tests.support.format_one import OldRecord
from tests.support.local_server import LocalServer
from tests.support.subprocesses import output, python
from tests.support.transports import Opener

BATCH = 7
TEXT = "x" * 600  # so that every batch takes a page of its own at least

WRITER = f"""
import sys
from nextk import Index
index = Index.embedded(sys.argv[1], type="dense", dimension=2)
batch = 0
while True:
    batch += 1
    index.upsert([(f"{{batch}}-{{n}}", [1.0, n], {{"batch": batch}}, {TEXT!r}) for n in range({BATCH})])
    print(batch, flush=True)
"""

TRY = """
import sys
from nextk import Index
from nextk.errors import ClientError
try:
    with Index.embedded(sys.argv[1]) as index:
        print(index.info().vector_count)
except ClientError as error:
    print(error)
"""

LIMITED = """
import resource, sys
from pathlib import Path
from nextk import Index
from nextk.errors import ClientError
source, target = sys.argv[1:]
with Index.embedded(source) as index:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    try:
        index.backup(target)
    except ClientError as error:
        print(error)
"""

BackUp = Callable[..., Awaitable[None]]


@pytest.fixture(params=["sync", "async"])
def back_up(request: pytest.FixtureRequest) -> BackUp:
    """Back up an index by the client of either colour."""
    blocking: bool = request.param == "sync"

    async def call(index: Index, path: Any, **keywords: Any) -> None:
        if blocking:
            index.backup(path, **keywords)
        else:
            await index.to_async().backup(path, **keywords)

    return call


@pytest.fixture(params=["file", "memory"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Index]:
    """An index with three batches, in a file and in memory."""
    path = tmp_path / "index" if request.param == "file" else None
    with Index.embedded(path, type="dense", dimension=2) as opened:
        for batch in (1, 2, 3):
            write(opened, batch)
        yield opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of an index with three batches, which nobody has open."""
    path = tmp_path / "index"
    with Index.embedded(path, type="dense", dimension=2) as opened:
        for batch in (1, 2, 3):
            write(opened, batch)
    return path


def write(index: Index, batch: int) -> None:
    """Store a batch of records that have its number."""
    index.upsert([Vector(f"{batch}-{n}", [1.0, n], metadata={"batch": batch}, data=TEXT) for n in range(BATCH)])


def batches_in(path: Path) -> int:
    """The number of batches in a backup, which holds them whole, from the first to the last one."""
    found: list[int] = []
    with Index.embedded(path) as index:
        cursor = ""
        while True:
            page = index.range(cursor, 1_000, include_metadata=True, include_data=True)
            for record in page.vectors:
                assert record.metadata is not None
                assert TEXT == record.data
                found.append(record.metadata["batch"])
            if not (cursor := page.next_cursor):
                break
        assert len(found) == index.info().vector_count == len(index.query([1.0, 0.0], min(len(found), 1_000)))
    last = max(found)
    assert found == [batch for batch in range(1, last + 1) for _ in range(BATCH)]
    return last


def names(folder: Path) -> list[str]:
    """The names of the files in a folder, without the journals of indexes that are open."""
    return sorted(path.name for path in folder.iterdir() if path.name not in ("index-wal", "index-reserve"))


class TestWhole:
    """The content of a backup."""

    async def test_it_is_an_index(self, index: Index, tmp_path: Path, back_up: BackUp) -> None:
        """A backup is one file that holds the records, the schema and the id of the index."""
        target = tmp_path / "backup"
        await back_up(index, target)
        assert 3 == batches_in(target)
        with Index.embedded(target) as copy:
            assert index._transport.identity == copy._transport.identity
            assert index.info().namespaces == copy.info().namespaces
            assert ("DENSE", 2) == (copy.info().index_type, copy.info().dimension)
        assert {"backup"} == set(names(tmp_path)) - {"index"}

    async def test_amid_writes(self, tmp_path: Path, back_up: BackUp) -> None:
        """While a thread writes, each backup holds all that was acknowledged before the call, and no half batch."""
        done, wrote, stop = [0], threading.Event(), threading.Event()

        def keep_writing() -> None:
            while not stop.is_set():
                write(written, done[0] + 1)
                done[0] += 1
                wrote.set()

        with Index.embedded(tmp_path / "index", type="dense", dimension=2) as written:
            thread = threading.Thread(target=keep_writing)
            thread.start()
            try:
                for number in range(6):
                    assert await asyncio.to_thread(wrote.wait, 10)
                    wrote.clear()
                    before = done[0]
                    await back_up(written, tmp_path / f"backup-{number}")
                    assert before <= batches_in(tmp_path / f"backup-{number}") <= done[0] + 1
            finally:
                stop.set()
                thread.join()

    def test_a_cursor_goes_on(self, path: Path, tmp_path: Path) -> None:
        """A search that was paused in the index goes on in a backup that takes its place."""
        reader: RowReader[QueryResult] = RowReader(lambda match: match)
        query = SearchQuery(vector=[1.0, 0.5])
        with Index.embedded(path) as index:
            expected = [match.id for match in index.query([1.0, 0.5], 10)]
            with RetrievalSession(index, query, reader) as search:
                first = [match.id for match in search.fetch_next(4)]
                cursor = search.cursor()
            index.backup(tmp_path / "backup")
        (tmp_path / "backup").replace(path)
        with Index.embedded(path) as index, RetrievalSession(index, query, reader, cursor=cursor) as search:
            assert expected == first + [match.id for match in search.fetch_next(6)]
            assert not search.report.changed

    def test_the_index_keeps_its_lock(self, path: Path, tmp_path: Path) -> None:
        """An index is held by its process after a backup as before, and is still written."""
        with Index.embedded(path) as index:
            write(index, 4)
            for number in range(2):
                index.backup(tmp_path / str(number))
                assert "held by another process" in output(TRY, path)
            write(index, 5)
        assert 5 == batches_in(path)

    def test_who_may_read_it(self, path: Path, tmp_path: Path) -> None:
        """Whoever may read the index may read the backup, and nobody else."""
        for mode in (0o640, 0o400):
            path.chmod(mode)
            assert back_up_file(path, tmp_path / str(mode), overwrite=False).path.stat().st_mode & 0o777 == mode
            path.chmod(0o600)

    async def test_a_faulty_client_backs_up(self, index: Index, tmp_path: Path, back_up: BackUp) -> None:
        """A client on which faults are planned makes backups, too."""
        await back_up(faulty(index, FaultPlan()), tmp_path / "backup")
        assert 3 == batches_in(tmp_path / "backup")


class TestTarget:
    """The file that is made."""

    async def test_overwrite(self, index: Index, tmp_path: Path, back_up: BackUp) -> None:
        """A backup of before is replaced only if the caller says so."""
        target = tmp_path / "backup"
        await back_up(index, target)
        write(index, 4)
        with pytest.raises(ClientError, match="exists already; name another file"):
            await back_up(index, target)
        assert 3 == batches_in(target)
        await back_up(index, target, overwrite=True)
        assert 4 == batches_in(target)
        assert {"backup"} == set(names(tmp_path)) - {"index"}

    async def test_a_file_that_is_no_index(self, index: Index, tmp_path: Path, back_up: BackUp) -> None:
        """A file that is no index is never overwritten; an empty one may be."""
        target = tmp_path / "notes.txt"
        for content in (b"dear diary", b"dear diary " * 500):
            target.write_bytes(content)
            with pytest.raises(ClientError, match="is not a nextk index, so it is not overwritten"):
                await back_up(index, target, overwrite=True)
            assert content == target.read_bytes()
        target.write_bytes(b"")
        await back_up(index, target, overwrite=True)
        assert 3 == batches_in(target)

    @pytest.mark.parametrize("writes", [True, False])
    def test_an_index_that_is_open(self, path: Path, tmp_path: Path, writes: bool) -> None:
        """An index that this process has open is not overwritten, and stays held by it."""
        back_up_file(path, tmp_path / "other", overwrite=False)
        refused = pytest.raises(ClientError, match="open")
        with Index.embedded(tmp_path / "other") as other:
            if writes:
                write(other, 4)
            with refused:
                back_up_file(path, tmp_path / "other", overwrite=True)
            assert "held by another process" in output(TRY, tmp_path / "other")
            assert (21, 28)[writes] == other.info().vector_count

    def test_an_index_that_another_process_holds(self, path: Path, tmp_path: Path) -> None:
        """An index that another process writes is not overwritten."""
        with python(WRITER, tmp_path / "other") as process:
            assert process.stdout is not None
            process.stdout.readline()
            with pytest.raises(ClientError, match="open"):
                back_up_file(path, tmp_path / "other", overwrite=True)
            assert process.poll() is None
            process.kill()
        assert batches_in(tmp_path / "other")

    def test_a_journal_beside_it(self, path: Path, tmp_path: Path) -> None:
        """A backup is not put beside the journal that another index has left."""
        with Index.embedded(path) as index:
            write(index, 4)
            (tmp_path / "backup-wal").write_bytes((tmp_path / "index-wal").read_bytes())
        for overwrite in (True, False):
            with pytest.raises(ClientError, match="backup-wal holds writes"):
                back_up_file(path, tmp_path / "backup", overwrite=overwrite)

    @pytest.mark.parametrize("overwrite", [True, False])
    async def test_the_index_itself(self, path: Path, tmp_path: Path, back_up: BackUp, overwrite: bool) -> None:
        """An index is not copied over itself, under whichever name, nor over what SQLite keeps beside it."""
        (tmp_path / "link").symlink_to(path)
        (tmp_path / "other").hardlink_to(path)
        with Index.embedded(path) as index:
            for name in ("index", "link", "other", "index-wal", "index-shm", "index-journal", "index-reserve"):
                with pytest.raises(ClientError, match="is the index itself, or a file that belongs to it"):
                    await back_up(index, tmp_path / name, overwrite=overwrite)
        assert 3 == batches_in(path)

    @pytest.mark.parametrize("overwrite", [True, False])
    async def test_an_unusable_path(self, index: Index, tmp_path: Path, back_up: BackUp, overwrite: bool) -> None:
        """A path at which no file can be made is refused in words that say what to do."""
        before = names(tmp_path)
        for path, reason in (
            (tmp_path, "is a folder; name a file in it"),
            (tmp_path / "absent" / "backup", "does not exist; make it first"),
            (None, "path=None cannot be used"),
            (3, "path=3 cannot be used"),
            ("a\0b", "cannot be used: embedded null byte"),
            (tmp_path / ("x" * 300), "File name too long"),
            ("/dev/null", "is not a file, so it is not overwritten"),
            ("/", "is a folder"),
        ):
            with pytest.raises(ClientError, match=reason):
                await back_up(index, path, overwrite=overwrite)
        assert before == names(tmp_path)

    async def test_a_link_is_followed(
        self, index: Index, tmp_path: Path, back_up: BackUp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A backup to a symbolic link is made where the link leads to, and `~` is the user's home."""
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "link").symlink_to(tmp_path / "backup")
        await back_up(index, "~/link")
        assert 3 == batches_in(tmp_path / "backup")
        assert (tmp_path / "link").is_symlink()

    @pytest.mark.parametrize("appears", [True, False])
    def test_a_file_system_without_links(
        self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, appears: bool
    ) -> None:
        """Where files cannot be linked a backup is made as well, but not over a file that has appeared meanwhile."""
        target = tmp_path / "backup"

        def link(*_: Any) -> None:
            if appears:
                target.write_bytes(b"mine")
            raise PermissionError

        monkeypatch.setattr(os, "link", link)
        if appears:
            with pytest.raises(ClientError, match="exists already"):
                back_up_file(path, target, overwrite=False)
            assert b"mine" == target.read_bytes()
        else:
            back_up_file(path, target, overwrite=False)
            assert 3 == batches_in(target)
        assert ["backup", "index"] == names(tmp_path)

    def test_a_file_that_appears(self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that is made at the target while the index is copied is not overwritten."""
        whole = copying.copy_files

        def copy_files(source: Any, copy: Path, abandoned: Any) -> None:
            whole(source, copy, abandoned)
            (tmp_path / "backup").write_bytes(b"mine")

        monkeypatch.setattr(backup, "copy_files", copy_files)
        with pytest.raises(ClientError, match="exists already"):
            back_up_file(path, tmp_path / "backup", overwrite=False)
        assert b"mine" == (tmp_path / "backup").read_bytes()


class TestGivenUp:
    """Backups that do not come to an end."""

    @pytest.mark.parametrize("fault", [CancelledError, KeyboardInterrupt])
    def test_at_any_moment(self, index: Index, tmp_path: Path, fault: type[BaseException]) -> None:
        """A backup that is abandoned or interrupted leaves nothing behind, and the next one succeeds."""
        before, engine = names(tmp_path), engine_of(index)
        asked, moment = 0, 0

        def abandoned() -> bool:
            nonlocal asked
            asked += 1
            if asked > moment and fault is KeyboardInterrupt:
                raise KeyboardInterrupt
            return asked > moment

        while not (tmp_path / "backup").exists():
            asked = 0
            with contextlib.suppress(fault):
                engine.backup(tmp_path / "backup", overwrite=False, abandoned=abandoned)
                break
            assert before == names(tmp_path)
            moment += 1
        assert moment > 1
        assert 3 == batches_in(tmp_path / "backup")

    async def test_cancelled(self, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A task that is cancelled gives its backup up; once the index is closed, nothing is left of it."""
        before, started = names(tmp_path), threading.Event()
        complete = backup._complete

        def wait(partial: Path, name: str, abandoned: Callable[[], bool]) -> int:
            started.set()
            while not abandoned():
                time.sleep(0.001)
            return complete(partial, name, abandoned)

        monkeypatch.setattr(backup, "_complete", wait)
        client = index.to_async()
        task = asyncio.create_task(client.backup(tmp_path / "backup"))
        assert await asyncio.to_thread(started.wait, 10)
        await client.query([1.0, 0.0])  # neither the loop nor the index waits for the backup
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await client.close()
        assert before == names(tmp_path)

    def test_a_full_disk(self, path: Path, tmp_path: Path) -> None:
        """A backup that does not fit is an error with the reason, and leaves nothing behind."""
        assert f"cannot back up {path} to {tmp_path / 'backup'}: File too large" == output(
            LIMITED, path, tmp_path / "backup"
        )
        assert ["index"] == names(tmp_path)

    def test_a_full_disk_at_the_end(self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A journal that does not fit into the copy any more is an error, too, and no smaller backup."""

        def fold(_: sqlite3.Connection) -> None:
            message = "database or disk is full"
            raise sqlite3.OperationalError(message)

        monkeypatch.setattr(backup, "_fold", fold)
        with pytest.raises(ClientError, match=r"cannot back up .*: database or disk is full"):
            back_up_file(path, tmp_path / "backup", overwrite=False)
        assert ["index"] == names(tmp_path)

    def test_an_unreadable_journal(self, path: Path, tmp_path: Path) -> None:
        """An index of which a file cannot be read is not backed up, and the error names the file and the reason."""
        (tmp_path / "index-wal").mkdir()
        with pytest.raises(ClientError, match=f"^cannot read {path}-wal: Is a directory$"):
            back_up_file(path, tmp_path / "backup", overwrite=False)
        assert ["index"] == names(tmp_path)

    def test_a_damaged_index(self, path: Path, tmp_path: Path) -> None:
        """A damaged index does not replace a whole backup."""
        back_up_file(path, tmp_path / "backup", overwrite=False)
        content = bytearray(path.read_bytes())
        content[4096 : len(content) // 2] = bytes(len(content) // 2 - 4096)
        path.write_bytes(content)
        with pytest.raises(ClientError, match=r"is damaged \(.*\); restore it from an earlier backup"):
            back_up_file(path, tmp_path / "backup", overwrite=True)
        assert 3 == batches_in(tmp_path / "backup")

    async def test_closed(self, index: Index, tmp_path: Path, back_up: BackUp) -> None:
        """An index that is closed, before the call or meanwhile, is not backed up."""
        engine = engine_of(index)
        index.close()
        with pytest.raises(ClientError, match="this index is closed"):
            await back_up(index, tmp_path / "backup")
        with pytest.raises(ClientError, match="was closed before it was backed up"):
            engine.backup(tmp_path / "backup", overwrite=False, abandoned=lambda: False)
        assert "backup" not in names(tmp_path)


def engine_of(index: Index) -> EmbeddedEngine:
    """The engine of an embedded index."""
    transport: Any = index._transport
    engine = transport._shared_engine.engine
    assert isinstance(engine, EmbeddedEngine)
    return engine


class TestServer:
    """Indexes behind a server."""

    async def test_refused(self, open_index: Opener, tmp_path: Path) -> None:
        """A client of a server cannot back its index up, and is told the command; every embedded index can."""
        index = open_index("dense", dimension=2)
        if open_index.way.endswith("http"):
            with pytest.raises(ClientError, match="run `nextk backup URL TARGET` if that is `nextk serve`"):
                await index.backup(tmp_path / "backup")
            assert [] == names(tmp_path)
        else:
            await index.backup(tmp_path / "backup")
            assert ["backup"] == names(tmp_path)

    def test_no_command_leads_to_it(self) -> None:
        """No command of the protocol has a server write a file at a path of the client's choice."""
        assert "backup" not in COMMANDS


class TestFromOutside:
    """Backups of an index that this process does not open."""

    def test_another_process_writes(self, tmp_path: Path) -> None:
        """While another process writes, each backup holds all that was acknowledged before, and no half batch."""
        path, acknowledged = tmp_path / "index", 0
        with python(WRITER, path) as process:
            assert process.stdout is not None
            try:
                for number in range(5):
                    acknowledged = int(process.stdout.readline())
                    made = back_up_file(path, tmp_path / str(number), overwrite=False)
                    assert acknowledged <= batches_in(made.path)
                    assert (made.records, made.size) == (batches_in(made.path) * BATCH, made.path.stat().st_size)
                assert process.poll() is None
            finally:
                process.kill()

    def test_a_killed_process(self, tmp_path: Path) -> None:
        """A backup holds the writes that a killed process has left in the journal, and the index is not changed."""
        path = tmp_path / "index"
        with python(WRITER, path) as process:
            assert process.stdout is not None
            acknowledged = [int(process.stdout.readline()) for _ in range(5)][-1]
            process.kill()
        before = {name: (tmp_path / name).read_bytes() for name in ("index", "index-wal")}
        made = back_up_file(path, tmp_path / "backup", overwrite=False)
        assert before == {name: (tmp_path / name).read_bytes() for name in before}
        assert acknowledged <= batches_in(made.path)

    def test_a_served_index(self, tmp_path: Path, local_server: LocalServer) -> None:
        """An index that is being served is backed up by its server's process like any other."""
        with Rig(dimension=1, path=tmp_path / "index") as rig:
            rig.upsert({"id": "a", "vector": [1.0]})
            local_server.engines["kept"] = rig.engine
            rig.engine.backup(tmp_path / "backup", overwrite=False, abandoned=lambda: False)
            del local_server.engines["kept"]
        with Index.embedded(tmp_path / "backup") as copy:
            assert ["a"] == [match.id for match in copy.query([1.0])]

    def test_format_1(self, tmp_path: Path) -> None:
        """A file of format 1 is copied as it is; neither it nor the backup is converted."""
        path, target = tmp_path / "old", tmp_path / "backup"
        format_one.write(path, [OldRecord("", "a", [1.0, 0.0], {"n": 1}), OldRecord("de", "b", [0.0, 1.0])])
        before = path.read_bytes()
        assert 2 == back_up_file(path, target, overwrite=False).records
        assert before == path.read_bytes()
        assert format_one.dump(path) == format_one.dump(target)

    def test_the_mark_is_renewed(self, path: Path, tmp_path: Path) -> None:
        """A backup has a mark of its own, so that no journal of the index is taken for one of the backup."""
        for mark in (0x00000102, 0x2BCDEF02):
            with path.open("r+b") as main:
                main.seek(60)
                main.write(struct.pack(">I", mark))
            back_up_file(path, tmp_path / "backup", overwrite=True)
            version = int.from_bytes((tmp_path / "backup").read_bytes()[60:64], "big")
            assert (mark & 0xFF, True) == (version & 0xFF, version >> 8 not in (0, mark >> 8))
            assert mark == int.from_bytes(path.read_bytes()[60:64], "big")

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("absent", "there is no index at"),
            ("empty", "is not a nextk index"),
            ("text", "is not a nextk index"),
            ("database", "is a database, but not a nextk index"),
            (".", "is a folder; name the file of an index in it"),
        ],
    )
    def test_no_index(self, tmp_path: Path, name: str, reason: str) -> None:
        """A file that is no index is not backed up, and the error says what it is."""
        (tmp_path / "empty").touch()
        (tmp_path / "text").write_text("no database, but long enough to be looked at. " * 20)
        with closing(sqlite3.connect(tmp_path / "database")) as connection:
            connection.execute("CREATE TABLE other (x)")
        before = names(tmp_path)
        with pytest.raises(ClientError, match=reason):
            back_up_file(tmp_path / name, tmp_path / "backup", overwrite=False)
        assert before == names(tmp_path)
