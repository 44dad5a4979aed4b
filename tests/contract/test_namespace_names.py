"""The names of namespaces: two that differ stay two, by whichever way they come, and they are few and short enough."""

from typing import Any

import pytest

from nextk import AsyncIndex
from nextk.dispatch import COMMANDS
from nextk.errors import RefusedError
from nextk.types import Data
from tests.support.transports import Opener, Wire

NAMESPACED = sorted(name for name, command in COMMANDS.items() if command.namespaced)
NO_UTF8 = {
    "a byte that is never in UTF-8": "a%FF",
    "another one": "a%FE",
    "a character cut short": "a%C3",
    "a character without its head": "%A9a",
    "an overlong slash": "a%C0%AFb",
    "a surrogate": "%ED%A0%80",
    "beyond Unicode": "%F4%90%80%80",
}
LONGEST = ["x" * 1_000, "é" * 500, "日本" * 166 + "abcd"]


class TestPaths:
    """Names in the paths of requests, as any client may write them."""

    @pytest.mark.parametrize("name", NO_UTF8)
    def test_bytes_that_are_not_utf8(self, wire: Wire, name: str) -> None:
        """Every command refuses a name whose bytes are no UTF-8, instead of replacing them, and makes no namespace."""
        for command in NAMESPACED:
            status, text = wire.error(f"{command}/{NO_UTF8[name]}", {"id": "a", "vector": [1.0], "data": "a"})
            assert (422, True) == (status, "namespace" in text and "UTF-8" in text), command
        assert [""] == wire.result("list-namespaces", None)

    @pytest.mark.parametrize(
        ("paths", "names"),
        [
            (["%EF%BF%BD", "%EF%BF%BDx"], ["\ufffd", "\ufffdx"]),
            (["a%20b", "a%2520b", "a%252520b"], ["a b", "a%20b", "a%2520b"]),
            (["%C3%A9", "e%CC%81"], ["é", "e\u0301"]),
            (["a", "A", "a%2F", "%2Fa", "%2F"], ["a", "A", "a/", "/a", "/"]),
            (["a%2Fb", "a/b", "a%2F%2Fb"], ["a/b", "a//b"]),
            (["%2E%2E", "a/%2E/b"], ["..", "a/./b"]),
        ],
        ids=["U+FFFD", "escaped twice", "not normalised", "slashes", "escaped slashes", "dots"],
    )
    def test_names_are_decoded_once(self, wire: Wire, paths: list[str], names: list[str]) -> None:
        """A name is what its bytes say after one decoding: an escaped slash is a slash, and nothing else is folded."""
        for number, path in enumerate(paths):
            wire.result(f"upsert/{path}", {"id": str(number), "vector": [1.0]})
        assert ["", *names] == wire.result("list-namespaces", None)
        assert len(paths) == wire.result("info", None)["vectorCount"]

    def test_the_nul_character(self, wire: Wire) -> None:
        """A name with the NUL character is another one. PostgreSQL cannot store it, and refuses writes."""
        wire.result("upsert/a", {"id": "0", "vector": [1.0]})
        status, _ = wire.send("upsert/a%00", {"id": "1", "vector": [1.0]})
        names = wire.result("list-namespaces", None)
        assert (status, names) in [(200, ["", "a", "a\0"]), (422, ["", "a"])]
        assert ([] if status == 422 else ["1"]) == [
            match["id"] for match in wire.result("query/a%00", {"vector": [1.0]})
        ]
        assert 0 == wire.result("delete/%00", {"ids": ["0", "\0"]})["deleted"]
        assert [None, None] == wire.result("fetch/%00", {"ids": ["0", "\0"]})
        for selected in ({"ids": ["\0"]}, {"prefix": "\0"}, {"filter": "a = '\0'"}):
            assert 0 == wire.result("delete/a", selected)["deleted"]
        assert [None] == wire.result("fetch/a", {"ids": ["\0"]})
        assert [] == wire.result("fetch/a", {"prefix": "0\0"})
        assert [] == wire.result("range/a", {"prefix": "\0", "cursor": "", "limit": 1})["vectors"]

    def test_a_raw_id_that_is_not_utf8(self, wire: Wire) -> None:
        """A delete by a bare id whose bytes are no UTF-8 is refused, and does not delete the record called U+FFFD."""
        wire.result("upsert", {"id": "\ufffd", "vector": [1.0]})
        status, text = wire.error("delete", b"\xff")
        assert (400, True) == (status, "UTF-8" in text)
        assert 1 == wire.result("info", None)["vectorCount"]


CALLS = {
    "upsert": lambda index, name: index.upsert([("a", [1.0])], namespace=name),
    "upsert data": lambda index, name: index.upsert([Data("a", "text")], namespace=name),
    "query": lambda index, name: index.query([1.0], namespace=name),
    "query many": lambda index, name: index.query_many(queries=[{"vector": [1.0]}] * 2, namespace=name),
    "resumable query": lambda index, name: index.resumable_query([1.0], namespace=name),
    "fetch": lambda index, name: index.fetch("a", namespace=name),
    "range": lambda index, name: index.range(namespace=name),
    "update": lambda index, name: index.update("a", data="text", namespace=name),
    "delete": lambda index, name: index.delete("a", namespace=name),
    "reset": lambda index, name: index.reset(name),
    "delete namespace": lambda index, name: index.delete_namespace(name),
}


class TestLength:
    """A name has at most 1,000 bytes of UTF-8."""

    async def test_longest(self, open_index: Opener) -> None:
        """A name of just 1,000 bytes is one like any other."""
        index = open_index("dense", dimension=1)
        for name in LONGEST:
            assert 1_000 == len(name.encode())
            await index.upsert([("a", [1.0])], namespace=name)
            assert ["a"] == [match.id for match in await index.query([1.0], namespace=name)]
        assert ["", *LONGEST] == await index.list_namespaces()

    @pytest.mark.parametrize("call", CALLS)
    async def test_longer(self, open_index: Opener, call: str) -> None:
        """A longer name is refused with the limit, whatever is to be done with it."""
        index = open_index("dense", dimension=1)
        for name in LONGEST:
            with pytest.raises(RefusedError, match=r"namespace .* longer than 1000 bytes") as caught:
                await CALLS[call](index, name + "x")
            assert 422 == caught.value.status
        assert [""] == await index.list_namespaces()

    @pytest.mark.parametrize("field", ["namespace", "newNamespace"])
    def test_rename(self, wire: Wire, field: str) -> None:
        """A namespace can be given the longest name, and no longer one."""
        wire.result("upsert/x", {"id": "a", "vector": [1.0]})
        for name in LONGEST:
            status, text = wire.error("rename-namespace", {"namespace": "x", "newNamespace": "y", field: name + "x"})
            assert (422, True) == (status, "1000 bytes" in text)
        assert ["", "x"] == wire.result("list-namespaces", None)
        wire.result("rename-namespace", {"namespace": "x", "newNamespace": LONGEST[1]})
        assert ["", LONGEST[1]] == wire.result("list-namespaces", None)

    @pytest.mark.parametrize("name", [rb'"\ud800"', b'"\xff"'], ids=["surrogate", "byte"])
    def test_rename_to_what_is_no_text(self, wire: Wire, name: bytes) -> None:
        """A new name that is no Unicode text is refused."""
        wire.result("upsert/x", {"id": "a", "vector": [1.0]})
        assert 400 == wire.error("rename-namespace", b'{"namespace": "x", "newNamespace": ' + name + b"}")[0]
        assert ["", "x"] == wire.result("list-namespaces", None)


class TestNumber:
    """An index has a bounded number of namespaces."""

    async def full(self, open_index: Opener) -> AsyncIndex:
        """Open an index that has as many namespaces as it may have: `""`, `x` and `y`."""
        index = open_index("dense", max_namespaces=3, embedding=lambda texts: [[1.0] for _ in texts])
        for name in ("x", "y"):
            await index.upsert([("a", [1.0])], namespace=name)
        return index

    @pytest.mark.parametrize("record", [("a", [1.0]), Data("a", "text")], ids=["vector", "text"])
    async def test_no_more(self, open_index: Opener, record: Any) -> None:
        """A further namespace is refused, and the refusal says what to do; those that exist are written as before."""
        index = await self.full(open_index)
        with pytest.raises(RefusedError, match=r"3 namespaces.*delete one.*--max-namespaces") as caught:
            await index.upsert([record], namespace="z")
        assert 422 == caught.value.status
        assert ["", "x", "y"] == await index.list_namespaces()
        for name in ("", "x", "y"):
            await index.upsert([record], namespace=name)
            assert ["a"] == [match.id for match in await index.query([1.0], namespace=name)]

    async def test_other_commands_need_no_room(self, open_index: Opener) -> None:
        """Whatever makes no namespace finds nothing in an unknown one, as ever."""
        index = await self.full(open_index)
        assert [] == await index.query([1.0], namespace="z")
        assert not await index.update("a", data="text", namespace="z")
        assert 0 == (await index.delete("a", namespace="z")).deleted
        assert "Success" == await index.reset("z")
        assert ["", "x", "y"] == await index.list_namespaces()

    async def test_room_is_made(self, open_index: Opener) -> None:
        """A namespace that is deleted or replaced makes room; one that is renamed or reset stays, and makes none."""
        index = await self.full(open_index)
        engine = open_index.engine(index)
        assert engine.rename_namespace("x", "z", replace=False)
        await index.reset("z")
        with pytest.raises(RefusedError, match="--max-namespaces"):
            await index.upsert([("a", [1.0])], namespace="x")
        assert engine.rename_namespace("y", "z", replace=True)
        await index.upsert([("a", [1.0])], namespace="x")
        await index.delete_namespace("z")
        await index.upsert([("a", [1.0])], namespace="new")
        assert ["", "x", "new"] == await index.list_namespaces()
