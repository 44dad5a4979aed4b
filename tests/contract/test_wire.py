"""The raw protocol, as other clients speak it: JavaScript, Go and PHP, by HTTP and straight into the dispatch."""

import re
from typing import Any

import pytest

from tests.support.transports import Wire

PLAIN: tuple[Any, ...] = ([], {}, None, "null", b"null", b"[]", b"", b"{}")


class TestWire:
    """What only other clients send."""

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            (b'{"ids": ["a", 7]}', ["b", "x y"]),
            (b'["a", "b"]', ["7", "x y"]),
            (b"[7]", ["a", "b", "x y"]),
            (b"a", ["b", "7", "x y"]),
            (b"7", ["a", "b", "x y"]),
            (b"x y", ["a", "b", "7"]),
            (b'"b"', ["a", "7", "x y"]),
            (b'{"prefix": "x"}', ["a", "b", "7"]),
            (b'{"filter": "n < 2", "ids": null}', ["7", "x y"]),
        ],
        ids=repr,
    )
    def test_delete_bodies(self, wire: Wire, body: bytes, expected: list[str]) -> None:
        """A delete is understood as an object, a bare array, and a raw id without quotes."""
        ids_ = ["a", "b", 7, "x y"]
        records = [{"id": id_, "vector": [1.0], "metadata": {"n": place}} for place, id_ in enumerate(ids_)]
        wire.result("upsert", records)
        assert {"deleted": 4 - len(expected)} == wire.result("delete", body)
        assert expected == [record["id"] for record in wire.result("range", {"limit": 10})["vectors"]]

    @pytest.mark.parametrize("body", PLAIN, ids=repr)
    @pytest.mark.parametrize("path", ["info", "list-namespaces", "reset", "random", "delete-namespace/x", "/reset?all"])
    def test_bodies_of_plain_commands_are_ignored(self, wire: Wire, path: str, body: Any) -> None:
        """Commands without parameters take whatever body a client sends with them."""
        wire.result("upsert/x", {"id": "a", "vector": [1.0]})
        wire.result(path, body)

    def test_reset_all_by_presence(self, wire: Wire) -> None:
        """The flag `all` counts by being there."""
        for path in ("reset?all", "reset?all=true", "reset?all="):
            wire.result("upsert/x", {"id": "a", "vector": [1.0]})
            assert "Success" == wire.result(path, None)
            assert 0 == wire.result("info", None)["vectorCount"]

    def test_absent_fields_are_omitted(self, wire: Wire) -> None:
        """A reply omits what was not asked for or does not exist; only missing records and no random one are null."""
        assert wire.result("random", None) is None
        wire.result("upsert", {"id": 1, "vector": [1], "sparseVector": None, "metadata": None, "data": None})
        flags = {"includeMetadata": True, "includeData": "true", "includeVectors": None}
        assert [{"id": "1"}, None] == wire.result("fetch", {"ids": [1, 2], **flags})
        assert [{"id": "1", "score": 1.0}] == wire.result("query", {"vector": [1], **flags})
        info = wire.result("info", None)
        assert ("DENSE", False) == (info["indexType"], "sparseIndex" in info)

    def test_random_has_vectors(self, wire: Wire) -> None:
        """A random record comes with its vectors, unasked."""
        wire.result("upsert", {"id": 1, "vector": [1], "metadata": {"k": 1}, "data": "text"})
        assert {"id": "1", "vector": [1.0]} == wire.result("random", None)

    def test_floats_have_a_fraction(self, wire: Wire) -> None:
        """Whole floats are written with a fraction, and float32s as their shortest decimals."""
        wire.result("upsert", {"id": "a", "vector": [0.1]})
        _, body = wire.send("query", {"vector": [0.1], "includeVectors": True})
        assert b'{"result":[{"id":"a","score":1.0,"vector":[0.1]}]}' == body.replace(b" ", b"")

    def test_batches(self, wire: Wire) -> None:
        """An array of one query is answered like an object, an array of two as two lists."""
        wire.result("upsert", [{"id": "a", "vector": [1]}])
        flat = [{"id": "a", "score": 1.0}]
        for body, expected in [({"vector": [1]}, flat), ([{"vector": [1]}], flat), ([{"vector": [1]}] * 2, [flat] * 2)]:
            assert expected == wire.result("query", body)

    def test_defaults(self, wire: Wire) -> None:
        """`topK` and `limit` default to 10, also where null; a range without a limit starts at the beginning."""
        wire.result("upsert", [{"id": number, "vector": [1]} for number in range(12)])
        assert 10 == len(wire.result("query", {"vector": [1], "topK": None}))
        assert 10 == len(wire.result("range", {"cursor": 0})["vectors"])
        started = wire.result("resumable-query", {"vector": [1], "maxIdle": 0})
        assert 10 == len(started["scores"])
        following = {"uuid": started["uuid"], "additionalK": 5}
        assert ["10", "11"] == [match["id"] for match in wire.result("resumable-query-next", following)]
        assert "Success" == wire.result("resumable-query-end", {"uuid": started["uuid"]})

    def test_uuid(self, wire: Wire) -> None:
        """The uuid is random, of version 4, in lower case; that of a missing namespace is empty and known to nobody."""
        started = wire.result("resumable-query", {"vector": [1]})["uuid"]
        assert re.fullmatch("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", started)
        wire.result("resumable-query-end", {"uuid": started})
        assert {"uuid": "", "scores": []} == wire.result("resumable-query/nowhere", {"vector": [1]})
        for uuid in ("", started):
            text = f"Resumable query with uuid {uuid} does not exist"
            assert (404, text) == wire.error("resumable-query-next", {"uuid": uuid, "additionalK": 1})
            assert (404, text) == wire.error("resumable-query-end", {"uuid": uuid})

    def test_unknown_query_is_said_first(self, wire: Wire) -> None:
        """The uuid is looked up before `additionalK` is looked at."""
        status, text = wire.error("resumable-query-next", {"uuid": "u", "additionalK": 0})
        assert (404, "Resumable query with uuid u does not exist") == (status, text)

    def test_rename(self, wire: Wire) -> None:
        """A namespace is renamed; to its own name, nothing happens; onto another one, only if asked to."""
        wire.result("upsert/x", {"id": "a", "vector": [1]})
        wire.result("upsert/y", {"id": "b", "vector": [1]})
        assert {"renamed": True} == wire.result("rename-namespace", {"namespace": "x", "newNamespace": "z"})
        assert {"renamed": False} == wire.result("rename-namespace", {"namespace": "z", "newNamespace": "z"})
        assert 422 == wire.error("rename-namespace", {"namespace": "y", "newNamespace": "z"})[0]
        assert ["", "y", "z"] == sorted(wire.result("list-namespaces", None))
        replaced = {"namespace": "y", "newNamespace": "z", "deleteExisting": True}
        assert {"renamed": True} == wire.result("rename-namespace", replaced)
        assert ["", "z"] == wire.result("list-namespaces", None)
        assert ["b"] == [match["id"] for match in wire.result("query/z", {"vector": [1]})]

    @pytest.mark.parametrize(
        ("old", "new", "status"), [("nowhere", "z", 404), ("", "z", 422), ("x", "", 422)], ids=repr
    )
    def test_refused_renames(self, wire: Wire, old: str, new: str, status: int) -> None:
        """A missing source, and the default namespace on either side, are refused; nothing changes."""
        wire.result("upsert/x", {"id": "a", "vector": [1]})
        assert status == wire.error("rename-namespace", {"namespace": old, "newNamespace": new})[0]
        assert ["", "x"] == wire.result("list-namespaces", None)

    def test_paths(self, wire: Wire) -> None:
        """Leading slashes collapse, a trailing one means the default namespace, escapes are decoded."""
        wire.result("//upsert/", {"id": "a", "vector": [1]})
        wire.result("/upsert/a%20b/c", {"id": "b", "vector": [1]})
        assert ["", "a b/c"] == wire.result("list-namespaces", None)
        assert ["a"] == [match["id"] for match in wire.result("query", {"vector": [1]})]

    @pytest.mark.parametrize("path", ["nothing", "queries", "info/x", "resumable-query-next/x", ""])
    def test_unmatched_paths(self, wire: Wire, path: str) -> None:
        """A path that is no command is 404, in the envelope."""
        assert 404 == wire.error(path, {})[0]
