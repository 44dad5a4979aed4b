"""The file of an index in the hands of others: copied, restored, replaced, removed, overwritten, or read-only."""

import errno
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nextk import AsyncIndex, Index
from nextk.engine import index_file, journal, rest_timer
from nextk.engine.file import connect
from nextk.errors import ClientError, RefusedError
from nextk.langchain import ResumableRetriever
from tests.support import format_one
from tests.support.subprocesses import output, python
from tests.support.unprivileged import UNPRIVILEGED

ORPHANED = """
import os, sys
from nextk import Index
index = Index.embedded(sys.argv[1], type="dense", dimension=1)
for start in range(0, int(sys.argv[2]), 20):
    index.upsert([(f"lost {n}", [1.0], {}, "x" * 500) for n in range(start, start + 20)])
os.kill(os.getpid(), 9)
"""

SPILLED = """
import os, sys
from nextk import Index
from nextk.engine.index_file import IndexFile
index = Index.embedded(sys.argv[1])
index._transport._open().engine._storage._connection.execute("PRAGMA cache_size = 1")
IndexFile.commit = lambda file: os.kill(os.getpid(), 9)
index.upsert([(f"lost {n}", [1.0], {}, "x" * 5000) for n in range(200)])
"""

HELD = """
import sys
from nextk import Index
with Index.embedded(sys.argv[1]) as index:
    print(index.info().vector_count, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A path at which an index can be made."""
    return tmp_path / "notes.nextk"


def fill(path: Path, prefix: str, count: int = 30) -> None:
    """Make an index, or write to it, and close it."""
    with Index.embedded(path, type="dense", dimension=1) as index:
        index.upsert([(f"{prefix} {number}", [1.0], {}, "y" * 300) for number in range(count)])


def ids(path: Path) -> list[str]:
    """Return the ids that an index holds."""
    with Index.embedded(path) as index:
        return stored(index)


def stored(index: Index) -> list[str]:
    """Return the ids that an open index holds."""
    return [record.id for record in index.range("", 1_000).vectors]


def numbered(prefix: str, count: int = 30) -> list[str]:
    """Return the ids that `fill` writes."""
    return [f"{prefix} {number}" for number in range(count)]


def orphan(path: Path, count: int = 60) -> Path:
    """Write to an index in a process that is killed. Returns the journal that it leaves."""
    with python(ORPHANED, path, count) as process:
        process.communicate()
    left = journal.path_beside(path)
    assert journal.has_writes(left)
    return left


def at_rest(path: Path) -> bool:
    """Return whether the journal of an index holds no writes."""
    return not journal.has_writes(journal.path_beside(path))


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until something is so, for half a minute at most."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def copied(source: Path, target: Path) -> None:
    """Copy over a file, which stays the same file."""
    shutil.copyfile(source, target)


def moved(source: Path, target: Path) -> None:
    """Put another file in the place of a file."""
    shutil.copyfile(source, source.with_name("moving"))
    source.with_name("moving").replace(target)


def recreated(source: Path, target: Path) -> None:
    """Remove a file, and copy another one to its place."""
    target.unlink()
    shutil.copyfile(source, target)


@pytest.fixture(params=[copied, moved, recreated], ids=lambda way: way.__name__)
def restore(request: pytest.FixtureRequest) -> Callable[[Path, Path], None]:
    """Put a copy in the place of a file, in each of the ways that people do it."""
    way: Callable[[Path, Path], None] = request.param
    return way


class TestRestored:
    """A backup that is put in the place of a file whose process was killed."""

    @pytest.mark.parametrize("corpus", ["the same", "another"])
    def test_the_restored_file_wins(
        self,
        path: Path,
        tmp_path: Path,
        corpus: str,
        restore: Callable[[Path, Path], None],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """The journal that the killed process left is kept under another name, which the log tells, and not used."""
        backup = tmp_path / "backup"
        fill(path, "old")
        if corpus == "the same":
            shutil.copyfile(path, backup)
        else:
            fill(backup, "other", 300)
        left = orphan(path)
        lost = left.read_bytes()
        restore(backup, path)
        restored = path.read_bytes()

        expected = numbered("old") if corpus == "the same" else numbered("other", 300)
        assert expected == ids(path)
        aside = [kept for kept in tmp_path.iterdir() if ".stale-" in kept.name]
        assert [lost] == [kept.read_bytes() for kept in aside]
        assert [True] == [str(kept) in caplog.text for kept in aside]
        assert restored == path.read_bytes()  # it was only read
        fill(path, "new", 3)
        assert [*expected, *numbered("new", 3)] == ids(path)

    def test_a_copy_taken_while_it_was_open(
        self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restore: Callable[[Path, Path], None]
    ) -> None:
        """A plain copy that was taken at rest wins as well, though the process that was killed later had it open."""
        code = ORPHANED.replace("for start", "index.upsert([('kept', [1.0])])\ntime.sleep(2.5)\nprint(1)\nfor start")
        fill(path, "old")
        with python(code.replace("import os,", "import time, os,").replace("print(1)", ""), path, 40) as process:
            assert process.stdout is not None
            wait_until(lambda: at_rest(path) and "kept" in peek(path))
            shutil.copyfile(path, tmp_path / "backup")
            process.wait()
        restore(tmp_path / "backup", path)
        assert [*numbered("old"), "kept"] == ids(path)

    def test_without_a_restore_nothing_is_set_aside(self, path: Path) -> None:
        """The journal of a killed process is replayed over the file that it belongs to, again and again."""
        fill(path, "old")
        for count in (20, 40, 60):
            orphan(path, count)
            assert [*numbered("old"), *numbered("lost", count)] == ids(path)
        assert [path] == list(path.parent.iterdir())

    def test_nothing_was_committed(self, path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A write that a killed process had not committed is no write, so its journal is not set aside."""
        fill(path, "old")
        with python(SPILLED, path) as process:
            process.communicate()
        assert journal.path_beside(path).stat().st_size > 100_000
        output(
            "import sys; from nextk import Index; Index.embedded(sys.argv[1]).backup(sys.argv[2])", path, tmp_path / "b"
        )
        assert numbered("old") == ids(path) == ids(tmp_path / "b")
        assert "" == caplog.text

    def test_a_failure_to_set_aside(self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """If a stale journal cannot be renamed, the opening fails, and the restored file is as it was."""
        fill(path, "old")
        shutil.copyfile(path, tmp_path / "backup")
        left = orphan(path)
        moved(tmp_path / "backup", path)
        before, journal_before = path.read_bytes(), left.read_bytes()

        def refuse(*_: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        with monkeypatch.context() as patch:
            patch.setattr("nextk.engine.journal.publish", refuse)
            for _ in range(3):
                with pytest.raises(ClientError, match="Permission denied"):
                    Index.embedded(path)
        assert (before, journal_before) == (path.read_bytes(), left.read_bytes())
        assert numbered("old") == ids(path)

    def test_overwritten_on_a_full_disk(
        self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The file that others have overwritten is spared also if the journal cannot be kept."""
        fill(tmp_path / "other", "other")
        fill(path, "old")

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        index = Index.embedded(path)
        index.upsert([("unsaved", [1.0])])
        copied(tmp_path / "other", path)
        monkeypatch.setattr(shutil, "copyfile", full)
        index.close()
        monkeypatch.undo()
        assert "is lost: [Errno 28]" in caplog.text
        assert numbered("other") == ids(path)
        assert {path, tmp_path / "other"} == {each for each in tmp_path.iterdir() if "reserve" not in each.name}

    def test_moved_together(self, path: Path, tmp_path: Path) -> None:
        """A file that is moved with its journal keeps what is in the journal."""
        left = orphan(path, 40)
        (tmp_path / "elsewhere").mkdir()
        target = tmp_path / "elsewhere" / "other.nextk"
        path.rename(target)
        left.rename(journal.path_beside(target))
        assert numbered("lost", 40) == ids(target)

    def test_a_journal_of_another_application_is_left_alone(self, path: Path) -> None:
        """A database of someone else, and its journal, are refused and not touched."""
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA user_version = 70000")
            connection.execute("CREATE TABLE t (x)")
            connection.commit()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("INSERT INTO t VALUES (1)")
            connection.commit()
            for name in (path, journal.path_beside(path)):
                shutil.copyfile(name, f"{name}.copy")
        for name in (path, journal.path_beside(path)):
            Path(f"{name}.copy").replace(name)
        with pytest.raises(ClientError, match="not a nextk index"):
            Index.embedded(path)
        with closing(sqlite3.connect(path)) as connection:
            assert [(1,)] == connection.execute("SELECT x FROM t").fetchall()


def peek(path: Path) -> list[str]:
    """Return the ids in a file that another process has open, without its journal."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        return [id_ for (id_,) in connection.execute("SELECT id FROM records")]


class TestReplaced:
    """A file that is removed, replaced or overwritten while it is open."""

    def test_everything_is_refused(self, path: Path, tmp_path: Path, restore: Callable[[Path, Path], None]) -> None:
        """Reads, writes and further openings are refused in words, and the new file is left as it is."""
        fill(tmp_path / "other", "other")
        fill(path, "old")
        index = Index.embedded(path)
        index.upsert([("unsaved", [1.0])])
        restore(tmp_path / "other", path)
        for call in (
            lambda: index.upsert([("b", [1.0])]),
            lambda: index.query([1.0]),
            lambda: index.fetch(["old 1"]),
            lambda: index.delete(["old 1"]),
            lambda: index.info(),
            lambda: index.resumable_query([1.0]),
            lambda: Index.embedded(path),
            lambda: AsyncIndex.embedded(path),
        ):
            with pytest.raises((RefusedError, ClientError), match=r"has been (replaced|overwritten|removed).*close"):
                call()
        before = path.read_bytes()
        index.close()
        assert before == path.read_bytes()
        assert numbered("other") == ids(path)

    def test_a_rebuild(self, tmp_path: Path) -> None:
        """A folder that is removed and built anew says that the old index is still open, and works once it is not."""
        folder = tmp_path / "store"
        folder.mkdir()
        old = ResumableRetriever.from_texts(["old"], path=folder / "i")
        shutil.rmtree(folder)
        folder.mkdir()
        with pytest.raises((RefusedError, ClientError), match="removed"):
            ResumableRetriever.from_texts(["new"], path=folder / "i")
        assert [] == list(folder.iterdir())
        with pytest.raises(RefusedError, match="removed"):
            old.invoke("old")
        old.close()
        with ResumableRetriever.from_texts(["new"], path=folder / "i") as new:
            assert ["new"] == [document.page_content for document in new.invoke("old new")]

    def test_closing_the_old_one_spares_the_new_one(self, path: Path) -> None:
        """An index that another process has made at the path meanwhile keeps its journal and its lock."""
        fill(path, "old")
        old = Index.embedded(path)
        old.upsert([("unsaved", [1.0])])
        path.unlink()
        with python(
            ORPHANED.replace("os.kill(os.getpid(), 9)", "print(1, flush=True); sys.stdin.read()"), path, 40
        ) as new:
            assert new.stdout is not None
            new.stdout.readline()
            old.close()
            with pytest.raises(ClientError, match="another process"):
                Index.embedded(path)
            new.kill()
        assert numbered("lost", 40) == ids(path)

    @pytest.mark.parametrize("at", ["_begin", "commit"])
    def test_noticed_within_a_write(self, path: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
        """A file that is removed while a write is under way makes that write fail, and not those before it."""
        fill(path, "old")
        real = getattr(index_file.IndexFile, at)

        def removing(file: index_file.IndexFile, **options: Any) -> None:
            path.unlink()
            real(file, **options)

        with Index.embedded(path) as index:
            monkeypatch.setattr(index_file.IndexFile, at, removing)
            with pytest.raises(RefusedError, match="removed"):
                index.upsert([("b", [1.0])])
            monkeypatch.undo()
            with pytest.raises(RefusedError, match="removed"):
                index.query([1.0])


class TestAtRest:
    """The journal of an index that is open comes to rest."""

    def test_a_plain_copy_is_whole(self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Shortly after the last write the file alone holds everything, though the index is open."""
        monkeypatch.setattr(rest_timer, "QUIET", 0.05)
        with Index.embedded(path, type="dense", dimension=1) as index:
            for number in range(5):
                index.upsert([(f"{number} {n}", [1.0]) for n in range(100)])
            wait_until(lambda: at_rest(path))
            output("import shutil, sys; shutil.copyfile(sys.argv[1], sys.argv[2])", path, tmp_path / "copy")
            index.upsert([("after", [1.0])])
            assert 501 == index.info().vector_count
        assert 500 == len(ids(tmp_path / "copy"))

    def test_a_large_journal_does_not_wait(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A journal that has become large is brought to rest by the write itself."""
        monkeypatch.setattr(rest_timer, "QUIET", 1_000)
        monkeypatch.setattr(index_file, "_LARGE_JOURNAL", index_file.RESERVE)
        with Index.embedded(path, type="dense", dimension=1) as index:
            index.upsert([("small", [1.0])])
            assert journal.has_writes(journal.path_beside(path))
            index.upsert([(str(n), [1.0], {}, "x" * 9_000) for n in range(100)])
            assert not journal.has_writes(journal.path_beside(path))

    def test_a_failure_is_tried_again(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A journal that cannot come to rest loses nothing, and does so later."""
        monkeypatch.setattr(rest_timer, "QUIET", 0.02)
        real, failures = index_file.IndexFile._checkpoint, 3

        def failing(file: index_file.IndexFile) -> None:
            nonlocal failures
            failures -= 1
            if failures >= 0:
                raise sqlite3.OperationalError("database or disk is full")
            real(file)

        monkeypatch.setattr(index_file.IndexFile, "_checkpoint", failing)
        with Index.embedded(path, type="dense", dimension=1) as index:
            index.upsert([("a", [1.0])])
            wait_until(lambda: at_rest(path))
            assert failures < 0
            assert ["a"] == stored(index)

    def test_without_a_thread(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A write succeeds where no thread can be started any more, as at the end of a process."""

        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with Index.embedded(path, type="dense", dimension=1) as index:
            monkeypatch.setattr(threading.Thread, "start", refuse)
            index.upsert([("a", [1.0])])
            monkeypatch.undo()
            index.upsert([("b", [1.0])])
        assert ["a", "b"] == ids(path)

    def test_an_index_in_memory_needs_no_timer(self) -> None:
        """A write to an index in memory starts no thread."""
        before = threading.active_count()
        with Index.embedded(type="dense", dimension=1) as index:
            index.upsert([("a", [1.0])])
            assert before == threading.active_count()

    def test_no_attempt_after_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A timer that is stopped while its function runs, and fails, does not call it again."""
        monkeypatch.setattr(rest_timer, "QUIET", 0.001)

        class Failing:
            calls = 0
            timer: rest_timer.RestTimer

            def rest(self) -> bool:
                self.calls += 1
                self.timer.stop()
                called.set()
                return False

        failing, called = Failing(), threading.Event()
        failing.timer = rest_timer.RestTimer(failing.rest)
        failing.timer.start()
        thread = failing.timer._timer
        assert thread is not None
        thread.join(30)
        assert called.is_set()
        assert failing.timer._timer is None
        assert 1 == failing.calls

    def test_an_index_that_was_only_read_is_not_written(self, path: Path) -> None:
        """Opening an index and searching it leaves its file as it is, to the byte."""
        fill(path, "old")
        before = path.read_bytes()
        with Index.embedded(path) as index:
            assert 5 == len(index.query([1.0], 5))
        assert before == path.read_bytes()
        assert [path] == list(path.parent.iterdir())


class TestMade:
    """New files."""

    @pytest.mark.parametrize("journal_left", [False, True])
    def test_an_empty_file_is_no_index(self, path: Path, *, journal_left: bool) -> None:
        """A file of 0 bytes is refused with what to do, and stays as it is."""
        fill(path, "old")
        if journal_left:
            orphan(path)
        os.truncate(path, 0)
        with pytest.raises(ClientError, match=r"is empty.*backup.*remove it"):
            Index.embedded(path, type="dense")
        assert 0 == path.stat().st_size
        assert journal_left == journal.path_beside(path).exists()

    def test_a_failure_leaves_no_file(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """An index whose making fails on the way leaves nothing behind."""
        monkeypatch.setattr("nextk.engine.formats._TABLES", ("CREATE TABLE t (x)", "nonsense"))
        with pytest.raises(ClientError):
            Index.embedded(path, type="dense")
        assert [] == list(path.parent.iterdir())

    def test_made_by_two_at_once(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """If another process makes the index at the same moment, its records stay."""
        made = path.with_name("made")
        fill(made, "theirs")
        monkeypatch.setattr(Path, "exists", lambda self: False if self == path else os.path.lexists(self))
        made.rename(path)
        assert numbered("theirs") == ids_with_type(path)


def ids_with_type(path: Path) -> list[str]:
    """Return the ids of an index that is opened by somebody who believes that it does not exist."""
    with Index.embedded(path, type="dense", dimension=1) as index:
        return stored(index)


READ = (
    UNPRIVILEGED
    + """
import sys
from nextk import Index
from nextk.errors import ClientError, RefusedError
try:
    index = Index.embedded(sys.argv[1])
except (ClientError, RefusedError) as error:
    sys.exit(print("refused:", error))
def ids():
    return ",".join(match.id for match in index.query([1.0], 3))
print(ids(), flush=True)
for write in (lambda: index.upsert([("new", [1.0])]), lambda: index.delete(["old 0"]), lambda: index.reset(),
              lambda: index.upsert([("new", [1.0])], "other")):
    try:
        write()
    except RefusedError as error:
        print(error.status, error, flush=True)
if len(sys.argv) > 2:
    sys.stdin.readline()
    try:
        print(ids(), flush=True)
    except RefusedError as error:
        print(error.status, error, flush=True)
index.close()
"""
)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions are those of POSIX")
class TestReadOnly:
    """A file or a folder that cannot be written to."""

    @pytest.fixture(params=["file", "folder", "both"])
    def guarded(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
        """The path of an index that cannot be written to."""
        folder = tmp_path / "baked"
        folder.mkdir()
        path = folder / "notes.nextk"
        fill(path, "old")
        if request.param in {"file", "both"}:
            path.chmod(0o444)
        if request.param in {"folder", "both"}:
            folder.chmod(0o555)
        yield path
        folder.chmod(0o755)

    def test_it_is_searched(self, guarded: Path) -> None:
        """It opens for reading, writes are refused in words, and nothing is changed or left."""
        before = guarded.read_bytes()
        found, *refusals = output(READ, guarded).splitlines()
        assert "old 0,old 1,old 2" == found
        assert 4 == len(refusals)
        for refusal in refusals:
            assert refusal.startswith("403 ")
            assert "reading only" in refusal
        assert before == guarded.read_bytes()
        assert [guarded] == list(guarded.parent.iterdir())

    def test_several_processes_read_at_once(self, guarded: Path) -> None:
        """Several processes may have it open at the same time."""
        with python(READ, guarded, "wait") as first, python(READ, guarded, "wait") as second:
            for process in (first, second):
                assert process.stdin is not None
                assert process.stdout is not None
                assert "old 0,old 1,old 2\n" == process.stdout.readline()
            for process in (first, second):
                printed, complaints = process.communicate("\n")
                assert "" == complaints
                assert "old 0,old 1,old 2" == printed.splitlines()[-1]

    def test_a_writer_is_noticed(self, guarded: Path) -> None:
        """A reader whose file is written to by someone who may is told to open it again."""
        with python(READ, guarded, "wait") as reader:
            assert reader.stdout is not None
            reader.stdout.readline()
            guarded.parent.chmod(0o755)
            guarded.chmod(0o644)
            fill(guarded, "new", 1)
            printed, complaints = reader.communicate("\n")
        assert "" == complaints
        assert "409 " == printed.splitlines()[-1][:4]
        assert "open it again" in printed.splitlines()[-1]

    def test_a_journal_with_writes(self, guarded: Path) -> None:
        """Writes that are only in the journal are not silently left out: it says where it has to be opened once."""
        mode, folder_mode = guarded.stat().st_mode, guarded.parent.stat().st_mode
        guarded.parent.chmod(0o755)
        guarded.chmod(0o644)
        orphan(guarded)
        guarded.chmod(mode)
        guarded.parent.chmod(folder_mode)
        assert output(READ, guarded).startswith("refused: the last writes to")

    def test_a_stale_journal(self, guarded: Path, tmp_path: Path) -> None:
        """The journal of another file is not used."""
        left = orphan(tmp_path / "other")
        folder_mode = guarded.parent.stat().st_mode
        guarded.parent.chmod(0o755)
        shutil.copyfile(left, journal.path_beside(guarded))
        guarded.parent.chmod(folder_mode)
        assert "old 0,old 1,old 2" == output(READ, guarded).splitlines()[0]

    def test_an_older_format(self, tmp_path: Path) -> None:
        """A file that would have to be converted says so."""
        path = tmp_path / "old"
        format_one.write(path, [format_one.OldRecord("", "a", [1.0, 0.0])])
        path.chmod(0o444)
        assert "has to be converted" in output(READ, path)

    def test_no_index_and_no_place_for_one(self, tmp_path: Path) -> None:
        """Where no file can be made, the folder is named."""
        folder = tmp_path / "baked"
        folder.mkdir()
        folder.chmod(0o555)
        code = READ.replace("Index.embedded(sys.argv[1])", 'Index.embedded(sys.argv[1], type="dense")')
        assert "the folder cannot be written to" in output(code, folder / "i")


class TestLocks:
    """The lock of the file, which POSIX drops with the first descriptor of the file that is closed."""

    def test_a_hard_link(self, path: Path) -> None:
        """An opening under another name is refused, and does not take the lock away."""
        fill(path, "old")
        os.link(path, path.with_name("link"))
        with Index.embedded(path):
            with pytest.raises(ClientError, match="held"):
                Index.embedded(path.with_name("link"))
            with python(HELD, path) as other:
                printed, complaints = other.communicate()
            assert "" == printed
            assert "another process" in complaints

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux has locks that belong to a descriptor")
    def test_a_copy_in_the_same_process(self, path: Path, tmp_path: Path) -> None:
        """To read the file in the process that has it open does not let another process write to it as well."""
        fill(path, "old")
        with Index.embedded(path) as index:
            for _ in range(2):
                shutil.copyfile(path, tmp_path / "copy")
                with python(HELD, path) as other:
                    assert "another process" in other.communicate()[1]
                index.upsert([("b", [1.0])])
        assert [*numbered("old"), "b"] == ids(path)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_child_does_not_keep_the_lock(self, path: Path) -> None:
        """A forked process that lives on does not keep the index from being opened when its parent is done."""
        fill(path, "old")
        with Index.embedded(path):
            read, write = os.pipe()
            child = os.fork()
            if not child:
                os.close(write)
                os.read(read, 1)  # until the parent has closed the pipe
                os._exit(0)
        with python(HELD, path) as other:
            assert "30\n" == other.communicate("")[0]
        os.close(write)
        os.close(read)
        os.waitpid(child, 0)

    def test_a_read_only_opening_beside_a_writer(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that this process writes to is not opened again for reading, which would take the lock away."""
        fill(path, "old")
        os.link(path, path.with_name("link"))
        with Index.embedded(path):
            monkeypatch.setattr(os, "access", lambda *_: False)
            with pytest.raises(ClientError, match="open for writing in this process"):
                Index.embedded(path.with_name("link"))
            with python(HELD, path) as other:
                assert "another process" in other.communicate()[1]

    def test_a_closed_file(self, path: Path) -> None:
        """A closed file is not looked at any more: its descriptor may be that of another file by now."""
        fill(path, "old")
        file = connect(path, None)
        file.close()
        with path.open("rb"), pytest.raises(sqlite3.ProgrammingError, match="closed"):
            file.require_unchanged()
        assert file.rest()

    def test_after_a_refused_opening(self, path: Path) -> None:
        """Openings that fail on the way do not take the lock of the one that is open away."""
        fill(path, "old")
        with Index.embedded(path) as index:
            for _ in range(3):
                with pytest.raises(ClientError):
                    Index.embedded(path, dimension=9)
            with python(HELD, path) as other:
                assert "another process" in other.communicate()[1]
            index.upsert([("b", [1.0])])


def test_the_log_tells_of_reading_only(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An index that is open for reading only says so in the log, at the level of information."""
    fill(path, "old")
    monkeypatch.setattr(os, "access", lambda *_: False)
    caplog.set_level(logging.INFO, "nextk.engine")
    with Index.embedded(path) as index, pytest.raises(RefusedError, match="reading only"):
        index.upsert([("b", [1.0])])
    assert "open for reading only" in caplog.text


FULL = """
import os, sys
from nextk import Index
from nextk.errors import RefusedError
index = Index.embedded(sys.argv[1], type="dense", dimension=1)
index.upsert([(f"old {n}", [1.0], {}, "x" * 900) for n in range(400)])
filler = os.open(os.path.join(os.path.dirname(sys.argv[1]), "filler"), os.O_CREAT | os.O_WRONLY)
try:
    while os.write(filler, bytes(4096)):
        pass
except OSError:
    pass
stored = 400
try:
    while True:
        index.upsert([(f"{stored + n}", [1.0], {}, "x" * 900) for n in range(20)])
        stored += 20
except RefusedError as error:
    print(stored == index.info().vector_count == len(index.query([1.0], 1000)))
for n in range(300):
    assert 1 == index.delete([f"old {n}"]).deleted
print(stored - 300 == index.info().vector_count)
os.unlink(os.path.join(os.path.dirname(sys.argv[1]), "filler"))
os.close(filler)
index.upsert([(f"new {n}", [1.0], {}, "x" * 900) for n in range(20)])
index.close()
with Index.embedded(sys.argv[1]) as index:
    print(stored - 280 == index.info().vector_count)
"""


def test_records_can_be_deleted_when_the_disk_is_full(tmp_path: Path) -> None:
    """On a full disk writes are refused as a whole, and deletes, which have a reserve, are still possible."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if not mount or not umount:
        pytest.skip("needs the commands mount and umount")
    mounted = subprocess.run(  # noqa: S603 - the command of the system
        [mount, "-t", "tmpfs", "-o", "size=3m", "tmpfs", tmp_path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the permission to mount a file system")
    try:
        assert ["True"] * 3 == output(FULL, tmp_path / "i").splitlines()
    finally:
        subprocess.run([umount, tmp_path], check=True)  # noqa: S603 - the command of the system
