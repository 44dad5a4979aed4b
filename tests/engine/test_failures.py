"""Failures of SQLite and of the operating system in words, by their codes."""

import errno
import inspect
import itertools
import os
import pickle
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from nextk import Index
from nextk.bodies import Fetch
from nextk.engine.engine import EmbeddedEngine
from nextk.engine.failures import explain, refusal
from nextk.engine.protocol import Engine
from nextk.errors import ClientError, IndexLocked, RefusedError
from tests.support.bare_engine import Rig

PATH = Path("notes.nextk")


def failed(code: int, name: str, text: str = "text of SQLite") -> sqlite3.OperationalError:
    """An error of SQLite with a code."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode, error.sqlite_errorname = code, name
    return error


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("SQLITE_FULL", 507, "the disk is full"),
        ("SQLITE_IOERR", 500, "the disk failed"),
        ("SQLITE_IOERR_WRITE", 500, "its quota and the limit on the size of files"),
        ("SQLITE_IOERR_FSYNC", 500, "the disk failed"),
        ("SQLITE_IOERR_READ", 500, "the disk failed"),
        ("SQLITE_READONLY", 403, "can only be read"),
        ("SQLITE_READONLY_DIRECTORY", 403, "can only be read"),
        ("SQLITE_READONLY_DBMOVED", 500, "moved, replaced or removed"),
        ("SQLITE_CORRUPT", 500, "is damaged"),
        ("SQLITE_CORRUPT_INDEX", 500, "is damaged"),
        ("SQLITE_NOTADB", 500, "is damaged"),
        ("SQLITE_CONSTRAINT_UNIQUE", 500, "is damaged"),
        ("SQLITE_CANTOPEN", 500, "cannot be opened"),
        ("SQLITE_CANTOPEN_ISDIR", 500, "cannot be opened"),
        ("SQLITE_BUSY", 503, "held by another process"),
        ("SQLITE_BUSY_RECOVERY", 503, "held by another process"),
        ("SQLITE_LOCKED", 503, "held by another process"),
        ("SQLITE_INTERRUPT", 503, "interrupted"),
        ("SQLITE_TOOBIG", 413, "larger than"),
        ("SQLITE_ERROR", 500, "its storage failed"),
        ("SQLITE_PROTOCOL", 500, "its storage failed"),
    ],
)
def test_codes(name: str, status: int, words: str) -> None:
    """The code of an error decides the status and the words; the name of the code and of the index are in them."""
    error = refusal(failed(getattr(sqlite3, name), name), "notes")
    assert status == error.status
    assert str(error).startswith("The index notes cannot do this: ")
    assert words in str(error)
    assert f"(text of SQLite, {name}). This call changed nothing" in str(error)


@pytest.mark.parametrize(
    ("number", "status", "words"),
    [
        (errno.ENOSPC, 507, "the disk is full (No space left on device)"),
        (errno.EDQUOT, 507, "the disk is full (Disk quota exceeded)"),
        (errno.EROFS, 403, "can only be read"),
        (errno.EACCES, 403, "can only be read"),
        (errno.EIO, 500, "the disk failed"),
        (errno.ENOENT, 500, "the disk failed"),
    ],
)
def test_numbers(number: int, status: int, words: str) -> None:
    """The number of an error of the operating system decides the status and the words, which name no path."""
    error = refusal(OSError(number, os.strerror(number), "/secret"), "notes")
    assert status == error.status
    assert words in str(error)
    assert "secret" not in str(error)


def test_no_code_is_foreign() -> None:
    """Whatever the code is, a call is refused and an opening is a `ClientError`; both pickle and keep their class."""
    for primary, extension in itertools.product(range(1, 29), range(40)):
        error = failed(primary | extension << 8, "NAME")
        refused, explained = refusal(error, "notes"), explain(error, PATH)
        assert 400 <= refused.status < 600
        assert str(PATH) in str(explained)
        for each in (refused, explained):
            again = pickle.loads(pickle.dumps(each))  # noqa: S301 - our own bytes
            assert (type(each), str(each)) == (type(again), str(again))


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("SQLITE_BUSY", IndexLocked, "is held by another process. Share an index between processes with: nextk serve"),
        ("SQLITE_FULL", ClientError, "cannot open an index at notes.nextk: the disk is full"),
        ("SQLITE_IOERR_READ", ClientError, "cannot open an index at notes.nextk: the disk failed"),
        ("SQLITE_CORRUPT", ClientError, "notes.nextk is damaged .*nextk check notes.nextk"),
        ("SQLITE_NOTADB", ClientError, "^notes.nextk is not a nextk index"),
        ("SQLITE_CANTOPEN", ClientError, "cannot open an index at notes.nextk: a file of the index cannot be opened"),
    ],
)
def test_opening(name: str, kind: type[ClientError], words: str) -> None:
    """A failure while an index is being opened names the path and the reason."""
    error = explain(failed(getattr(sqlite3, name), name), PATH)
    assert kind is type(error)
    with pytest.raises(kind, match=words):
        raise error


def test_no_stored_text_in_errors(tmp_path: Path) -> None:
    """A stored text that is not UTF-8 is called damage, and is not quoted."""
    with Rig(dimension=1, path=tmp_path / "index") as rig:
        rig.upsert({"id": "a", "vector": [1.0], "data": "text"})
        rig.engine._storage._connection.execute("UPDATE records SET data = CAST(x'736563726574ff' AS TEXT)")
        with pytest.raises(RefusedError, match="Damaged in the file") as refused:
            rig.engine.fetch("", Fetch.model_validate({"ids": ["a"], "includeData": True}))
    assert "secret" not in str(refused.value)


def test_every_method_of_the_engine() -> None:
    """Every public method of the engine's class is one that refuses failures, those that are added later included."""
    methods = {name for name, value in vars(Engine).items() if inspect.isfunction(value) and not name.startswith("_")}
    assert methods
    assert methods == {name for name in methods if hasattr(getattr(EmbeddedEngine, name), "__wrapped__")}


def test_opening_of_an_index_that_is_open(tmp_path: Path) -> None:
    """A second opening whose keywords cannot be stored is a `ClientError`, too, and can be made again."""
    path = tmp_path / "index"
    with Index.embedded(path, type="sparse") as index:
        connection = index._transport._shared_engine.engine._storage._connection  # type: ignore[attr-defined]
        connection.execute("PRAGMA query_only = ON")
        with pytest.raises(ClientError, match="can only be read"):
            Index.embedded(path, weighting="idf")
        connection.execute("PRAGMA query_only = OFF")
        with Index.embedded(path, weighting="idf") as again:
            assert "IDF" == again.info().weighting


def test_opening_that_has_something_to_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first opening whose keywords cannot be stored is a `ClientError` that names the path; the index stays whole."""
    path = tmp_path / "index"
    Index.embedded(path, type="sparse").close()

    def full(*_: object) -> None:
        raise failed(sqlite3.SQLITE_FULL, "SQLITE_FULL")

    with monkeypatch.context() as patch:
        patch.setattr("nextk.engine.storage.Storage.save_schema", full)
        with pytest.raises(ClientError, match=f"cannot open an index at {path}: the disk is full"):
            Index.embedded(path, weighting="idf")
    with closing(Index.embedded(path)) as index:
        assert index.info().weighting is None
