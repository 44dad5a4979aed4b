"""Backups of served indexes: what is sent, what is left behind, and who may have them."""

import asyncio
import base64
import errno
import gc
import hashlib
import logging
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message

from nextk import Index
from nextk.bodies import Record
from nextk.cli.main import main
from nextk.engine.engine import EmbeddedEngine
from nextk.engine.factory import open_engine
from nextk.errors import ClientError
from nextk.server.app import create_app
from nextk.server.copy_folders import COPIES, CopyFolder
from tests.support.local_server import READ_ONLY_TOKEN, TOKEN, LocalServer

WRITER = {"Authorization": f"Bearer {TOKEN}"}
LARGE = 3_000_000  # bytes of text, so that a copy takes several pieces


def record(id_: str, **fields: Any) -> Record:
    """A record of a dense index of two dimensions."""
    return Record(id=id_, vector=np.array([1.0, len(id_)], np.float32), **fields)


def opened(path: Path | None, name: str = "docs") -> EmbeddedEngine:
    """Open a dense index of two dimensions."""
    engine = open_engine(path, {"type": "dense", "dimension": 2}, name=name)
    assert isinstance(engine, EmbeddedEngine)
    return engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EmbeddedEngine]:
    """An index on disk whose file has several pieces, closed at the end."""
    (tmp_path / "data").mkdir()
    engine = opened(tmp_path / "data" / "docs.nextk")
    engine.upsert("", [record(str(n), data="x" * (LARGE // 10), metadata={"n": n}) for n in range(10)])
    yield engine
    engine.close()


@pytest.fixture
def folder(tmp_path: Path, engine: EmbeddedEngine) -> Iterator[Path]:
    """The folder of the indexes; afterwards nothing is in it that a backup has made."""
    yield tmp_path / "data"
    assert [] == leftovers(tmp_path / "data")


def leftovers(folder: Path) -> list[str]:
    """The paths in a folder that are none of an index's own files, nor the folder in which copies are made."""
    paths = (path.relative_to(folder) for path in folder.glob("**/*"))
    return [str(path) for path in paths if not path.name.startswith("docs.nextk") and path != Path(COPIES)]


@asynccontextmanager
async def client_of(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application, with the full token. The application ends with its threads."""
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost", headers=WRITER)
    async with app.router.lifespan_context(app), client:
        yield client


def served(engine: EmbeddedEngine, folder: Path | None) -> Starlette:
    """A server of one index, with both tokens."""
    return create_app({"docs": engine}, token=TOKEN, read_only_token=READ_ONLY_TOKEN, backup_folder=folder)


def text_of(reply: httpx.Response) -> tuple[int, str]:
    """The status and the words of a refusal."""
    return reply.status_code, reply.json()["error"]


@pytest.mark.parametrize("path", ["/backup", "/indexes/docs/backup"])
async def test_a_backup_is_a_file_with_its_size_and_digest(engine: EmbeddedEngine, folder: Path, path: str) -> None:
    """The reply is the file of an index, and its headers let any client notice what is missing."""
    async with client_of(served(engine, folder)) as client:
        reply = await client.get(path)
    assert 200 == reply.status_code
    assert str(len(reply.content)) == reply.headers["content-length"]
    digest = base64.b64encode(hashlib.sha256(reply.content).digest()).decode()
    assert f"sha-256=:{digest}:" == reply.headers["content-digest"]
    assert "attachment; filename*=UTF-8''docs.nextk" == reply.headers["content-disposition"]
    (folder / "docs.nextk-restored").write_bytes(reply.content)
    with Index.embedded(folder / "docs.nextk-restored") as copy:
        assert 10 == copy.info().vector_count


@pytest.mark.parametrize("on_disk", [True, False])
def test_a_restored_backup_answers_as_the_original(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], on_disk: bool
) -> None:
    """`nextk backup URL TARGET` makes a file that is the index: the same matches, namespaces, metadata and texts."""
    monkeypatch.setenv("NEXTK_TOKEN", TOKEN)
    (tmp_path / "data").mkdir()
    with LocalServer(backup_folder=tmp_path / "data") as server:
        server.engines["docs"] = opened(tmp_path / "data" / "docs.nextk" if on_disk else None)
        with Index(server.url, TOKEN) as index:
            index.upsert([(str(n), [1.0, n], {"n": n}, f"text {n}") for n in range(20)])
            index.upsert([("other", [1.0, 2.0])], namespace="space")
            assert 0 == main(["backup", server.index_url("docs"), str(tmp_path / "copy.nextk")])
            with Index.embedded(tmp_path / "copy.nextk") as copy:
                for namespace in ("", "space"):
                    question: dict[str, Any] = {"vector": [1.0, 7.0], "top_k": 20, "namespace": namespace}
                    question |= {"include_metadata": True, "include_data": True, "include_vectors": True}
                    assert index.query(**question) == copy.query(**question)
            asyncio.run(until(lambda: [] == leftovers(tmp_path / "data")))
    size = (tmp_path / "copy.nextk").stat().st_size
    said = capsys.readouterr().out
    assert f"copied 21 records ({size:,} bytes) of {server.url}/indexes/docs to " in said
    assert TOKEN not in said


def test_writes_meanwhile_are_in_a_backup_whole_or_not_at_all(tmp_path: Path) -> None:
    """Each upsert is in a backup with all of its records or none, and none is missing that had returned before."""
    per_batch, acknowledged, enough = 5, [0], threading.Event()
    (tmp_path / "data").mkdir()
    with LocalServer(backup_folder=tmp_path / "data") as server:
        server.engines["docs"] = engine = opened(tmp_path / "data" / "docs.nextk")

        def write() -> None:
            while not enough.is_set():
                batch = acknowledged[0]
                engine.upsert("", [record(f"{batch}-{n}", metadata={"batch": batch}) for n in range(per_batch)])
                acknowledged[0] += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for number in range(4):
                before = acknowledged[0]
                target = tmp_path / f"{number}.nextk"
                assert 0 == main(["backup", server.url, str(target), "--token", TOKEN])
                with Index.embedded(target) as copy:
                    batches = copy.info().vector_count / per_batch
                    assert batches == int(batches) >= before
                    for batch in {0, before, int(batches) - 1} & set(range(int(batches))):
                        assert per_batch == len(copy.fetch([f"{batch}-{n}" for n in range(per_batch)]))
        finally:
            enough.set()
            writer.join()


@pytest.mark.parametrize(
    ("token", "path", "expected"),
    [
        (None, "/backup", (401, "Unauthorized: Invalid auth token")),
        (READ_ONLY_TOKEN, "/backup", (403, "Forbidden: a backup has every record of an index, so it needs the full")),
        (TOKEN, "/indexes/absent/backup", (404, "Not found: there is no index absent")),
        (TOKEN, "/backup/namespace", (404, "Not found: /backup")),
    ],
)
async def test_who_may_not_have_a_backup(
    engine: EmbeddedEngine, folder: Path, token: str | None, path: str, expected: tuple[int, str]
) -> None:
    """A backup needs the full token, and is one of a whole index. A refusal makes no file."""
    async with client_of(served(engine, folder)) as client:
        headers = {"Authorization": "" if token is None else f"Bearer {token}"}
        status, words = text_of(await client.get(path, headers=headers))
    assert expected[0] == status
    assert words.startswith(expected[1])


@pytest.mark.parametrize("method", ["HEAD", "POST", "DELETE"])
async def test_a_backup_is_got(engine: EmbeddedEngine, folder: Path, method: str) -> None:
    """A copy is not made for a request that does not want its bytes, and the refusal says which method does."""
    async with client_of(served(engine, folder)) as client:
        reply = await client.request(method, "/backup")
    assert (405, "GET") == (reply.status_code, reply.headers["allow"])


async def test_no_web_page_gets_a_backup(engine: EmbeddedEngine, folder: Path) -> None:
    """A server without a token refuses a backup to the pages of other sites as it refuses everything."""
    async with client_of(create_app({"docs": engine}, backup_folder=folder)) as client:
        assert 403 == (await client.get("/backup", headers={"Origin": "http://localhost:1"})).status_code
        assert 200 == (await client.get("/backup")).status_code


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that another task or thread is about to do."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - a thread or a folder has no event to wait for
            await asyncio.sleep(0.005)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Backups wait before they copy: an event that is set when one waits, and one that lets them go on."""
    waits, go_on, back_up = threading.Event(), threading.Event(), EmbeddedEngine.backup

    def wait(self: EmbeddedEngine, path: Any, *, overwrite: bool, abandoned: Callable[[], bool]) -> None:
        waits.set()
        while not (go_on.wait(0.005) or abandoned()):
            pass
        back_up(self, path, overwrite=overwrite, abandoned=abandoned)

    monkeypatch.setattr(EmbeddedEngine, "backup", wait)
    yield waits, go_on
    go_on.set()


async def test_one_backup_of_an_index_at_a_time(
    engine: EmbeddedEngine, folder: Path, held: tuple[threading.Event, threading.Event]
) -> None:
    """A second backup of the same index is refused until the first has been sent; that of another index is not."""
    waits, go_on = held
    other = opened(None, "other")
    app = create_app({"docs": engine, "other": other}, token=TOKEN, backup_folder=folder)
    async with client_of(app) as client:
        first = asyncio.create_task(client.get("/backup"))
        await until(waits.is_set)
        refused = text_of(await client.get("/indexes/docs/backup"))
        assert (503, "A backup of the index docs is under way already: try again when it has ended") == refused
        assert 200 == (await client.post("/info")).status_code
        waits.clear()
        second = asyncio.create_task(client.get("/indexes/other/backup"))
        await until(waits.is_set)
        go_on.set()
        assert [200, 200] == [reply.status_code for reply in await asyncio.gather(first, second)]
        assert 200 == (await client.get("/backup")).status_code
    other.close()


async def exchange(app: ASGIApp, messages: Sequence[Message], leaves_after: int) -> list[Message]:
    """Request a backup as uvicorn would for a client that leaves after so many messages of the reply."""
    sent: list[Message] = []
    left = asyncio.Event()
    incoming = iter(messages)

    async def receive() -> Message:
        message = next(incoming, None)
        if message is None:
            await left.wait()
            return {"type": "http.disconnect"}
        return message

    async def send(message: Message) -> None:
        sent.append(message)
        if len(sent) >= leaves_after:
            left.set()
            await asyncio.sleep(0)

    if not leaves_after:
        left.set()
    headers = [(b"authorization", WRITER["Authorization"].encode()), (b"host", b"localhost")]
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/backup",
        "raw_path": b"/backup",
        "query_string": b"",
        "headers": headers,
    }
    await app(scope, receive, send)
    return sent


WHOLE_REQUEST: Sequence[Message] = [{"type": "http.request", "body": b"", "more_body": False}]


@pytest.mark.parametrize("leaves_after", [1, 2, 4])
async def test_a_client_that_leaves_ends_its_backup(engine: EmbeddedEngine, folder: Path, leaves_after: int) -> None:
    """A client that leaves in the middle is sent no more, nothing is left of the copy, and the next backup is made."""
    app = served(engine, folder)
    sent = await exchange(app, WHOLE_REQUEST, leaves_after)
    assert leaves_after <= len(sent) <= leaves_after + 2 < LARGE // 2**18
    async with client_of(app) as client:
        assert 200 == (await client.get("/backup")).status_code


async def test_a_client_that_leaves_before_its_backup_is_made(
    engine: EmbeddedEngine, folder: Path, held: tuple[threading.Event, threading.Event]
) -> None:
    """A copy that nobody waits for any more is given up, and nothing is sent."""
    app = served(engine, folder)
    assert [] == await exchange(app, WHOLE_REQUEST, 0)
    held[1].set()
    async with client_of(app) as client:
        assert 200 == (await client.get("/backup")).status_code


async def test_a_server_that_stops_ends_its_backups(
    engine: EmbeddedEngine, folder: Path, held: tuple[threading.Event, threading.Event]
) -> None:
    """A request that is cancelled while its copy is made or sent leaves nothing."""
    waits, go_on = held
    app = served(engine, folder)
    async with app.router.lifespan_context(app):
        making = asyncio.create_task(exchange(app, WHOLE_REQUEST, 1_000))
        await until(waits.is_set)
        assert [] != leftovers(folder)
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
        assert [] == leftovers(folder)
        go_on.set()
        sending = asyncio.create_task(exchange(app, WHOLE_REQUEST, 1_000))
        await until(lambda: leftovers(folder))
        sending.cancel()
        await asyncio.wait([sending])


async def test_backups_are_given_up_with_all_requests(
    engine: EmbeddedEngine, folder: Path, held: tuple[threading.Event, threading.Event]
) -> None:
    """A server that gives up what runs answers those who wait for a copy, and makes no further one."""
    app = create_app({"docs": engine}, token=TOKEN, backup_folder=folder)
    async with client_of(app) as client:
        waiting = asyncio.create_task(client.get("/backup"))
        await until(held[0].is_set)
        app.state.give_up()
        for reply in (await waiting, await client.get("/backup")):
            status, words = text_of(reply)
            assert (503, True) == (status, words.startswith("The server is being stopped"))


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/secret/path"), (507, "the disk is full")),
        (OSError(errno.EIO, "Input/output error", "/secret/path"), (500, "the disk failed")),
        (None, (500, "The index docs cannot be backed up: the log of the server says why")),
    ],
    ids=["full", "failed", "other"],
)
async def test_a_copy_that_fails_is_refused_in_words(
    engine: EmbeddedEngine,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failure: OSError | None,
    expected: tuple[int, str],
) -> None:
    """The client learns the kind of the failure, but no path of the server; the log has all of it."""

    def fail(*_: object, **__: object) -> None:
        message = "cannot back up to /secret/path"
        raise ClientError(message) from failure

    monkeypatch.setattr(EmbeddedEngine, "backup", fail)
    with caplog.at_level(logging.INFO, "nextk.server"):
        async with client_of(served(engine, folder)) as client:
            status, words = text_of(await client.get("/backup"))
    assert (expected[0], True, False) == (status, expected[1] in words, "secret" in words)
    assert (failure is None) == ("/secret/path" in caplog.text)


@pytest.mark.skipif(os.name != "posix", reason="folders can be locked on POSIX only")
async def test_what_a_killed_server_has_left_is_removed(engine: EmbeddedEngine, folder: Path) -> None:
    """The next backup removes the unfinished copies that no process makes any more."""
    left = folder / COPIES / "nextk-backup-0123abcd"
    left.mkdir(parents=True)
    for name in ("copy", "nextk-backup-89abcdef.partial", "nextk-backup-89abcdef.partial-wal"):
        (left / name).write_bytes(b"half")
    async with client_of(served(engine, folder)) as client:
        assert 200 == (await client.get("/backup")).status_code
    assert [] == leftovers(folder)


async def test_what_no_backup_has_made_stays(engine: EmbeddedEngine, folder: Path) -> None:
    """Folders of the operator's stay, whatever their names, and so does a copy that another server is making."""
    other = CopyFolder(folder)
    other.copy.write_bytes(b"half")
    names = ["docs.backup-20261129", "docs.backup-saturday", "nextk-backup-0123abcd", f"{COPIES}/nextk-backup-mine"]
    for name in names:
        (folder / name).mkdir()
        (folder / name / "docs.nextk").write_bytes(b"precious")
    async with client_of(served(engine, folder)) as client:
        assert 200 == (await client.get("/backup")).status_code
    assert b"half" == other.copy.read_bytes()
    other.remove()
    assert os.name != "posix" or 0o700 == (folder / COPIES).stat().st_mode & 0o777
    assert sorted(names) == sorted(leftovers(folder))
    for name in names:
        assert b"precious" == (folder / name / "docs.nextk").read_bytes()
        shutil.rmtree(folder / name)


async def test_an_index_with_a_long_name_is_copied(engine: EmbeddedEngine, folder: Path) -> None:
    """A name that a file system takes just so for an index is no hindrance for its backup."""
    name = "\u7d22" * 60
    app = create_app({name: engine}, token=TOKEN, backup_folder=folder)
    async with client_of(app) as client:
        assert 200 == (await client.get("/backup")).status_code


async def test_a_task_that_is_cancelled_again_and_again(
    engine: EmbeddedEngine, folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that is given up at once is removed when its thread ends, and no second one is made until then."""
    waits, go_on, back_up = threading.Event(), threading.Event(), EmbeddedEngine.backup

    def wait(self: EmbeddedEngine, path: Any, **options: Any) -> None:
        waits.set()
        go_on.wait(20)
        back_up(self, path, **options)

    monkeypatch.setattr(EmbeddedEngine, "backup", wait)
    app = served(engine, folder)
    async with client_of(app) as client:
        making = asyncio.create_task(exchange(app, WHOLE_REQUEST, 1_000))
        await until(waits.is_set)
        while not making.done():
            making.cancel()
            await asyncio.sleep(0.001)
        assert making.cancelled()
        assert [] != leftovers(folder)
        assert 503 == (await client.get("/backup")).status_code
        go_on.set()
        await until(lambda: [] == leftovers(folder))
        assert 200 == (await client.get("/backup")).status_code
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_a_folder_that_cannot_be_written(engine: EmbeddedEngine, folder: Path, tmp_path: Path) -> None:
    """An index whose folder can only be read is copied in the folder of temporary files."""
    async with client_of(served(engine, folder / "absent")) as client:
        assert 200 == (await client.get("/backup")).status_code


async def test_the_metrics_count_backups(engine: EmbeddedEngine, folder: Path) -> None:
    """A backup is a command of its own in the metrics, and a refused one has the word of its reason."""
    async with client_of(served(engine, folder)) as client:
        await client.get("/backup")
        await client.get("/backup", headers={"Authorization": f"Bearer {READ_ONLY_TOKEN}"})
        text = (await client.get("/metrics")).text
    assert 'nextk_requests_total{command="backup",index="docs",status="200"} 1.0' in text
    assert 'nextk_refusals_total{index="docs",reason="forbidden"} 1.0' in text
