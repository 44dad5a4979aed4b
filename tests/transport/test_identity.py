"""What a transport tells about its index, and whom it tells that it is closed."""

from pathlib import Path

import pytest

from nextk import AsyncIndex, Index
from nextk.errors import ClientError
from nextk.testing import FaultPlan, faulty
from tests.support.scripted_server import TOKEN, ScriptedServer, result
from tests.support.subprocesses import output
from tests.support.transports import Opener, Recording

SHOW = """
import sys
from nextk import Index
with Index.embedded(sys.argv[1]) as index:
    print(index._transport.identity)
"""


class TestIdentity:
    """Which index a transport leads to."""

    def test_http(self) -> None:
        """A served index is known by its URL, however it ends."""
        urls = ["http://127.0.0.1:1/indexes/a", "http://127.0.0.1:1/indexes/a/"]
        assert {"http://127.0.0.1:1/indexes/a"} == {Index(url, TOKEN)._transport.identity for url in urls}

    def test_in_process(self, tmp_path: Path) -> None:
        """An embedded index is known by the id that is stored with it, in every process that opens it."""
        path = tmp_path / "index"
        with Index.embedded(path, type="dense", dimension=1) as index:
            identity = index._transport.identity
            assert identity == index.to_async()._transport.identity
        assert identity == output(SHOW, path)
        with Index.embedded(path) as again:
            assert identity == again._transport.identity

    def test_in_memory(self) -> None:
        """Two indexes in memory are told apart."""
        with Index.embedded(type="dense", dimension=1) as one, Index.embedded(type="dense", dimension=1) as other:
            assert one._transport.identity != other._transport.identity

    def test_closed(self) -> None:
        """An embedded index that is closed does not know any more."""
        index = Index.embedded(type="dense", dimension=1)
        index.close()
        with pytest.raises(ClientError, match="this index is closed"):
            _ = index._transport.identity

    def test_wrapped(self) -> None:
        """A transport around another one leads to the same index, and tells the same people."""
        with Index.embedded(type="dense", dimension=1) as index:
            for wrapper in (Recording(index._transport), faulty(index, FaultPlan())._transport):
                assert index._transport.identity == wrapper.identity
                assert index._transport.closing_hooks is wrapper.closing_hooks


class TestLeaving:
    """Those who keep queries open on a transport are asked for them before it closes."""

    async def test_before_the_orphans(self, open_index: Opener) -> None:
        """What they hand over on closing is stopped."""
        index = open_index("dense", dimension=1)
        engine = open_index.engine(index)
        engine.close = lambda: None  # to look into it afterwards
        await index.upsert([("a", [1.0])])
        _, handle = await index.resumable_query([1.0])
        inner = getattr(handle, "inner", handle)
        transport, progress = inner._transport, inner._state

        def leave() -> None:
            if progress.held:
                progress.stop_operation()
                transport.orphans.append(progress.uuid)

        transport.closing_hooks.append(leave)
        await index.close()
        assert 0 == engine.open_queries()

    async def test_every_time(self, open_index: Opener) -> None:
        """Each close asks once, even if nothing else is to be done."""
        index = open_index("dense", dimension=1)
        transport = getattr(index, "inner", index)._transport
        calls: list[str] = []
        transport.closing_hooks.append(lambda: calls.append("called"))
        await index.close()
        await index.close()
        assert ["called"] * 2 == calls

    async def test_closed_is_not_gone(self) -> None:
        """A served index can be used after closing: the next call opens new connections."""
        with ScriptedServer(*[result([""])] * 2) as server:
            index = AsyncIndex(server.url, TOKEN)
            for _ in range(2):
                assert [""] == await index.list_namespaces()
                await index.close()
