"""A failure of the storage in the middle of a call: a refusal in words, over every transport, and nothing is half done.

The failures are real ones that SQLite is told to have: a limit on the pages of the database, statements that are
interrupted, a connection that may not write, and pages that are overwritten.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from nextk import AsyncIndex, Vector
from nextk.errors import RefusedError
from nextk.types import Data
from tests.support.bare_engine import keep_no_records
from tests.support.transports import TRANSPORTS, Opener

WAYS = TRANSPORTS
"""SQLite is the storage of the embedded engine."""

LONG = "x" * 100_000
"""A text that needs many pages of the database."""

Call = Callable[[AsyncIndex], Awaitable[Any]]

WRITES: dict[str, Call] = {
    "upsert": lambda index: index.upsert([Vector("new", [1.0, 0.0], data=LONG)]),
    "replace": lambda index: index.upsert([Vector("a", [0.0, 1.0], data=LONG)]),
    "several": lambda index: index.upsert([("b", [0.0, 1.0]), Vector("new", [1.0, 0.0], data=LONG)]),
    "namespace": lambda index: index.upsert([Vector("new", [1.0, 0.0], data=LONG)], namespace="other"),
    "update": lambda index: index.update("a", data=LONG),
    "metadata": lambda index: index.update("a", metadata={"long": LONG[:40_000]}),
}
"""Writes that need room."""

REMOVALS: dict[str, Call] = {
    "delete": lambda index: index.delete(["a"]),
    "prefix": lambda index: index.delete(prefix="a"),
    "filter": lambda index: index.delete(filter="n = 1"),
    "reset": lambda index: index.reset(),
    "drop": lambda index: index.delete_namespace("ns"),
}
"""Writes that need no room."""

READS: dict[str, Call] = {
    "query": lambda index: index.query([1.0, 0.0]),
    "filtered": lambda index: index.query([1.0, 0.0], filter="n = 1"),
    "several": lambda index: index.query_many(queries=[{"vector": [1.0, 0.0]}, {"vector": [0.0, 1.0]}]),
    "fetch": lambda index: index.fetch(["a"]),
    "prefix": lambda index: index.fetch(prefix="a"),
    "range": lambda index: index.range(limit=2),
}


def connection_of(opener: Opener, index: AsyncIndex) -> sqlite3.Connection:
    """The connection of the engine behind an index."""
    connection: sqlite3.Connection = opener.engine(index)._storage._connection
    return connection


@contextmanager
def full(connection: sqlite3.Connection) -> Iterator[None]:
    """Let the database take no further page; pages that become free are used again."""
    connection.execute("PRAGMA max_page_count = 1")  # SQLite sets the present number of pages
    yield
    connection.execute("PRAGMA max_page_count = 1000000")


@contextmanager
def interrupted(connection: sqlite3.Connection) -> Iterator[None]:
    """Let every statement be interrupted."""
    connection.set_progress_handler(lambda: True, 1)
    yield
    connection.set_progress_handler(None, 0)


@contextmanager
def read_only(connection: sqlite3.Connection) -> Iterator[None]:
    """Let no statement write."""
    connection.execute("PRAGMA query_only = ON")
    yield
    connection.execute("PRAGMA query_only = OFF")


def damage(connection: sqlite3.Connection) -> None:
    """Overwrite every page but the first one."""
    content = connection.serialize()
    size = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.deserialize(content[:size] + b"\xff" * (len(content) - size))


async def opened(opener: Opener, **keywords: Any) -> AsyncIndex:
    """An index with three records in two namespaces, two of them in the default one."""
    index = opener("dense", dimension=2, **keywords)
    await index.upsert([("a", [1.0, 0.0], {"n": 1}), ("b", [0.0, 1.0], {"n": 2})])
    await index.upsert([("c", [1.0, 1.0])], namespace="ns")
    return index


async def everything(index: AsyncIndex) -> list[Any]:
    """All that an index holds, and the order in which a search finds it."""
    info = await index.info()
    found: list[Any] = [info.vector_count, info.dimension]
    for name in await index.list_namespaces():
        found += [name, (await index.range("", 1_000, True, True, name, True)).vectors]
        found.append([(match.id, match.score) for match in await index.query([1.0, 0.5], 1_000, namespace=name)])
    return found


async def refused(call: Awaitable[Any]) -> RefusedError:
    """The refusal that a call gets."""
    with pytest.raises(RefusedError) as caught:
        await call
    return caught.value


class TestFull:
    """A full disk."""

    @pytest.mark.parametrize("write", WRITES)
    async def test_writes(self, open_index: Opener, write: str) -> None:
        """A write without room is refused with 507 in words and changes nothing; with room it succeeds."""
        index = await opened(open_index)
        before = await everything(index)
        with full(connection_of(open_index, index)):
            error = await refused(WRITES[write](index))
            assert 507 == error.status
            assert "the disk is full" in str(error)
            assert "changed nothing, and reads and deletes still work" in str(error)
            assert before == await everything(index)
        await WRITES[write](index)
        assert before != await everything(index)

    async def test_texts(self, open_index: Opener) -> None:
        """Texts that the index embeds are refused as vectors are."""
        index = open_index("dense", embedding=lambda texts: [[float(len(text)), 1.0] for text in texts])
        await index.upsert([Data("a", "short")])
        with full(connection_of(open_index, index)):
            assert 507 == (await refused(index.upsert([Data("b", "b"), Data("c", LONG)]))).status
        assert 1 == (await index.info()).vector_count

    @pytest.mark.parametrize("removal", REMOVALS)
    async def test_removals(self, open_index: Opener, removal: str) -> None:
        """Records that are deleted on a full disk are gone, and make room."""
        index = await opened(open_index)
        for namespace in ("", "ns"):
            await index.upsert([Vector("a", [1.0, 0.0], {"n": 1}, LONG)], namespace=namespace)
        with full(connection_of(open_index, index)):
            assert 507 == (await refused(index.upsert([Vector("z", [1.0, 0.0], data=LONG)]))).status
            await REMOVALS[removal](index)
            await index.upsert([Vector("z", [1.0, 0.0], data=LONG)])
            [found] = await index.fetch(["z"], include_data=True)
            assert found is not None
            assert LONG == found.data

    async def test_first_write(self, open_index: Opener) -> None:
        """A first write that is refused decides nothing about the index."""
        index = open_index(None)
        with full(connection_of(open_index, index)):
            assert 507 == (await refused(index.upsert([Vector("a", [1.0, 0.0], data=LONG)]))).status
        assert "UNDECIDED" == (await index.info()).index_type
        await index.upsert([("a", [1.0, 0.0, 0.0])])
        assert 3 == (await index.info()).dimension


class TestReadOnly:
    """A connection that may not write."""

    async def test_writes(self, open_index: Opener) -> None:
        """Every write is refused with 403 in words and changes nothing, while reads succeed."""
        index = await opened(open_index)
        before = await everything(index)
        with read_only(connection_of(open_index, index)):
            for write in (*WRITES.values(), *REMOVALS.values()):
                error = await refused(write(index))
                assert (403, RefusedError) == (error.status, type(error))
                assert "its file can only be read" in str(error)
                assert before == await everything(index)


class TestInterrupted:
    """Statements that do not come to their end."""

    async def test_writes(self, open_index: Opener) -> None:
        """Every write is refused and changes nothing; afterwards it succeeds."""
        index = await opened(open_index)
        for write in (*WRITES.values(), *REMOVALS.values()):
            await index.upsert([("a", [1.0, 0.0], {"n": 1}), ("b", [0.0, 1.0], {"n": 2})])
            before = await everything(index)
            with interrupted(connection_of(open_index, index)):
                error = await refused(write(index))
            assert 503 == error.status
            assert "the call was interrupted" in str(error)
            assert before == await everything(index)
            await write(index)
            assert before != await everything(index)

    async def test_reads(self, open_index: Opener) -> None:
        """Every read of the file is refused, and gives the right answer afterwards."""
        index = await opened(open_index)
        keep_no_records(open_index.engine(index))
        for read in READS.values():
            before = await read(index)
            with interrupted(connection_of(open_index, index)):
                assert 503 == (await refused(read(index))).status
            assert before == await read(index)

    async def test_pages(self, open_index: Opener) -> None:
        """A start or a page that fails says why and leaves nothing open; the page can be requested again."""
        index = await opened(open_index)
        keep_no_records(open_index.engine(index))
        with interrupted(connection_of(open_index, index)), pytest.raises(RefusedError, match="was interrupted"):
            await index.resumable_query([1.0, 0.0], 1)
        assert 0 == open_index.engine(index).open_queries()
        expected = [match.id for match in await index.query([1.0, 0.0], 3)]
        first, handle = await index.resumable_query([1.0, 0.0], 1)
        with interrupted(connection_of(open_index, index)), pytest.raises(RefusedError, match="was interrupted"):
            await handle.fetch_next(1)
        rest = [*await handle.fetch_next(1), *await handle.fetch_next(1)]
        assert expected == [match.id for match in (*first, *rest)]
        await handle.stop()
        assert 0 == open_index.engine(index).open_queries()


class TestDamaged:
    """Pages of the database that are overwritten."""

    async def test_said(self, open_index: Opener, caplog: pytest.LogCaptureFixture) -> None:
        """Every write is refused; a read is refused or leaves out what is damaged. Each names the way out."""
        index = await opened(open_index)
        damage(connection_of(open_index, index))
        for name, call in {**READS, **WRITES}.items():
            caplog.clear()
            open_index.engine(index)._storage.damaged._named.clear()  # so that it is logged again
            refusal = await refusal_of(call(index))
            assert refusal is not None or name in READS
            assert refusal is None or 500 == refusal.status
            words = caplog.text if refusal is None else str(refusal)
            assert "damaged" in words
            assert "nextk check PATH" in words


async def refusal_of(call: Awaitable[Any]) -> RefusedError | None:
    """The refusal that a call gets; `None` if it succeeds."""
    try:
        await call
    except RefusedError as error:
        return error
    return None


async def test_closed(open_index: Opener) -> None:
    """A call that meets an engine that was closed in the meantime says so, whatever the engine had in memory."""
    index = await opened(open_index)
    await index.query([1.0, 0.0])
    open_index.engine(index).close()
    for call in (index.fetch(["a"]), index.query([1.0, 0.0])):
        error = await refused(call)
        assert 503 == error.status
        assert "was closed in the meantime" in str(error)
