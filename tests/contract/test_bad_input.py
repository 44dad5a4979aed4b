"""Bad input: each kind of it gets the clear error of the protocol, and nothing is lost or half-written.

The first part goes through the client, over all four transports; the second through the raw wire, for what no client of
ours would send.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from nextk import AsyncIndex, Vector
from nextk.dispatch import COMMANDS
from nextk.engine.engine import EmbeddedEngine
from nextk.errors import AuthenticationError, ClientError, QueryNotFound, RefusedError
from nextk.types import Data, MetadataUpdateMode, SparseVector
from tests.support.transports import Opener, Wire

Call = Callable[[AsyncIndex], Awaitable[object]]

DENSE, LONG, PART = [0.1, 0.2], [1.0, 2.0, 3.0], SparseVector([1, 2], [0.3, 0.4])
GOOD: dict[str, list[Any]] = {
    "dense": [("a", DENSE, {"n": 1}, "text"), ("b", DENSE)],
    "sparse": [("a", PART, {"n": 1}, "text"), ("b", PART)],
    "hybrid": [("a", DENSE, PART, {"n": 1}, "text"), ("b", DENSE, PART)],
}
MODEL = "Embedding data for this index is not allowed. The index must be created with an embedding model to use it."
DIMENSION = "Invalid vector dimension: 3, expected: 2"
NO_SPARSE, NO_DENSE = "This index does not support sparse vectors", "This index does not support dense vectors"
NEED_SPARSE, NEED_DENSE = "This index requires sparse vectors", "This index requires dense vectors"
SELECTOR = "Only and only one of the ids, prefix, or filter must be provided."


def odd(value: Any) -> Any:
    """A value of a type that the parameter does not take."""
    return value


def state(engine: EmbeddedEngine) -> Any:
    """Everything that an index holds, read behind the client's back."""
    wire, flags = Wire(engine), {"includeVectors": True, "includeMetadata": True, "includeData": True}
    names = wire.result("list-namespaces", None)
    held = {name: wire.result(f"range/{name}", {"limit": 1_000, **flags}) for name in names}
    info = wire.result("info", None)
    return names, held, info["namespaces"], info["dimension"], engine.open_queries()


async def filled(open_index: Opener, type: str) -> AsyncIndex:
    """An index of some type with two records and a second namespace."""
    index = open_index(type, dimension=None if type == "sparse" else 2)
    await index.upsert(GOOD[type])
    await index.upsert(GOOD[type], namespace="x")
    return index


async def refused(
    open_index: Opener, index: AsyncIndex, call: Call, error: type[Exception], text: str, status: int | None = None
) -> None:
    """A call is refused in the expected way, and nothing has changed."""
    engine = open_index.engine(index)
    before = state(engine)
    with pytest.raises(error) as caught:
        await call(index)
    assert text in str(caught.value)
    if status is not None:
        assert isinstance(caught.value, RefusedError)
        assert status == caught.value.status
    assert before == state(engine)


SERVER: list[tuple[str, str, Call, str]] = [
    # wrong dimension
    ("dense", "upsert", lambda i: i.upsert([("c", DENSE), ("d", LONG)]), DIMENSION),
    ("dense", "upsert into a new namespace", lambda i: i.upsert([("c", LONG)], namespace="new"), DIMENSION),
    ("dense", "query", lambda i: i.query(LONG), DIMENSION),
    ("dense", "resumable", lambda i: i.resumable_query(LONG), DIMENSION),
    ("dense", "update", lambda i: i.update("a", vector=LONG, metadata={}), DIMENSION),
    ("dense", "query_many", lambda i: i.query_many(queries=[{"vector": DENSE}, {"vector": LONG}]), DIMENSION),
    ("dense", "empty", lambda i: i.query([]), "Invalid vector dimension: 0, expected: 2"),
    ("hybrid", "upsert", lambda i: i.upsert([("c", LONG, PART)]), DIMENSION),
    ("hybrid", "query", lambda i: i.query(LONG, sparse_vector=PART), DIMENSION),
    # missing component
    ("dense", "no vector", lambda i: i.upsert([Vector("c", DENSE), Vector("d")]), NEED_DENSE),
    ("sparse", "no sparse", lambda i: i.upsert([("c", PART), Vector("d")]), NEED_SPARSE),
    ("hybrid", "no sparse", lambda i: i.upsert([("c", DENSE, PART), ("d", DENSE)]), NEED_SPARSE),
    ("hybrid", "no dense", lambda i: i.upsert([("c", DENSE, PART), ("d", PART)]), NEED_DENSE),
    ("hybrid", "update of a half", lambda i: i.update("a", vector=DENSE, data="new"), NEED_SPARSE),
    ("hybrid", "update of the other half", lambda i: i.update("a", sparse_vector=PART), NEED_DENSE),
    # component too many
    ("dense", "sparse", lambda i: i.upsert([("c", DENSE, PART)]), NO_SPARSE),
    ("sparse", "dense", lambda i: i.upsert([("c", DENSE, PART)]), NO_DENSE),
    ("dense", "sparse query", lambda i: i.query(sparse_vector=PART), "vectors"),
    ("sparse", "dense query", lambda i: i.query(DENSE), "vectors"),
    ("dense", "sparse update", lambda i: i.update("a", sparse_vector=PART), NO_SPARSE),
    # no model
    ("dense", "text", lambda i: i.upsert([Data("c", "hi")]), MODEL),
    ("sparse", "text", lambda i: i.upsert([("c", "hi")]), MODEL),
    ("hybrid", "text query", lambda i: i.query(data="hi"), MODEL),
    ("hybrid", "resumable text", lambda i: i.resumable_query(data="hi"), MODEL),
    # unusable sparse vectors
    ("sparse", "unequal lengths", lambda i: i.upsert([("c", ([1, 2], [1.0]))]), "2 indices but 1 values"),
    ("sparse", "int32", lambda i: i.upsert([("c", ([2**31], [1.0]))]), "indices"),
    ("sparse", "fraction", lambda i: i.upsert([("c", ([1.5], [1.0]))]), "indices"),
    ("sparse", "too long", lambda i: i.upsert([("c", (list(range(1_001)), [1.0] * 1_001))]), "1000"),
    ("sparse", "query", lambda i: i.query(sparse_vector=([1], [1.0, 2.0])), "1 indices but 2 values"),
    # numbers that float32 does not have
    ("dense", "huge", lambda i: i.upsert([("c", DENSE), ("d", [1e39, 0.0])]), "float32"),
    ("dense", "huge query", lambda i: i.query([-1e39, 0.0]), "float32"),
    ("sparse", "huge", lambda i: i.upsert([("c", ([1], [1e300]))]), "float32"),
    # values of another kind
    ("dense", "texts as numbers", lambda i: i.query(odd(["1", "2"])), "vector"),
    ("dense", "null in a vector", lambda i: i.upsert([("c", [None, 1.0])]), "vector"),
    ("dense", "booleans", lambda i: i.upsert([("c", [True, False])]), "vector"),
    ("dense", "nested", lambda i: i.query(np.zeros((2, 2))), "vector"),
    ("dense", "metadata", lambda i: i.upsert([("c", DENSE, ["no object"])]), "metadata"),
    ("dense", "data", lambda i: i.upsert([("c", DENSE, {}, 5)]), "data"),
    ("dense", "id", lambda i: i.upsert([(None, DENSE)]), "id"),
    ("dense", "id of a list", lambda i: i.upsert([(["c"], DENSE)]), "id"),
    ("dense", "boolean id", lambda i: i.upsert([(True, DENSE)]), "id"),
    ("dense", "empty id", lambda i: i.upsert([("c", DENSE), ("", DENSE)]), "id must not be empty"),
    ("dense", "long id", lambda i: i.upsert([("c", DENSE), ("ü" * 501, DENSE)]), "1000 bytes"),
    ("dense", "filter", lambda i: i.query(DENSE, filter=odd(5)), "filter"),
    ("dense", "flag", lambda i: i.query(DENSE, include_metadata=odd(3)), "includeMetadata"),
    ("dense", "fetched id", lambda i: i.fetch([odd(1.5)]), "ids"),
    # sizes
    ("dense", "top_k 0", lambda i: i.query(DENSE, 0), "topK"),
    ("dense", "top_k -1", lambda i: i.resumable_query(DENSE, -1), "topK"),
    ("dense", "top_k 1001", lambda i: i.resumable_query(DENSE, 1_001), "topK"),
    ("dense", "top_k 2.5", lambda i: i.query(DENSE, odd(2.5)), "topK"),
    ("dense", "top_k true", lambda i: i.query(DENSE, odd(True)), "topK"),
    ("dense", "max_idle -1", lambda i: i.resumable_query(DENSE, max_idle=-1), "maxIdle"),
    ("dense", "max_idle 86401", lambda i: i.resumable_query(DENSE, max_idle=86_401), "maxIdle"),
    ("dense", "max_idle 3601", lambda i: i.resumable_query(DENSE, max_idle=3_601), "Invalid maxIdle: at most 3600 sec"),
    ("dense", "max_idle 1.5", lambda i: i.resumable_query(DENSE, max_idle=odd(1.5)), "maxIdle"),
    ("dense", "limit", lambda i: i.range("", 1_001), "limit"),
    ("dense", "cursor", lambda i: i.range("next", 1), "cursor"),
    ("dense", "negative cursor", lambda i: i.range("-1", 1), "cursor"),
    ("dense", "101 queries", lambda i: i.query_many(queries=[{"vector": DENSE}] * 101), "100"),
    ("dense", "large data", lambda i: i.upsert([("c", DENSE), ("d", DENSE, {}, "x" * 1_000_001)]), "1000000"),
    ("dense", "large metadata", lambda i: i.upsert([("c", DENSE), ("d", DENSE, {"k": "x" * 50_000})]), "etadata"),
    ("dense", "large patch", lambda i: i.update("a", metadata={"k": "x" * 50_000}), "etadata"),
    # filters
    ("dense", "filter", lambda i: i.query(DENSE, filter="n = "), "Invalid filter. At line 1:"),
    ("dense", "resumable filter", lambda i: i.resumable_query(DENSE, filter="(n = 1"), "Invalid filter. At line 1:"),
    ("dense", "second line", lambda i: i.query(DENSE, filter="n = 1\n AND ?"), "Invalid filter. At line 2:5 "),
    ("dense", "delete", lambda i: i.delete(filter="n is null"), "Invalid filter. At line 1:"),
    ("dense", "SQL", lambda i: i.delete(filter="n = 1; DROP TABLE records"), "Invalid filter. At line 1:5 "),
    ("dense", "long filter", lambda i: i.query(DENSE, filter="n = 1 OR " * 1_000 + "n = 2"), "Invalid filter. "),
    ("dense", "deep filter", lambda i: i.query(DENSE, filter="(" * 65 + "n = 1" + ")" * 65), "Invalid filter. "),
    ("dense", "IN", lambda i: i.query(DENSE, filter=f"n IN ({','.join('1' * 501)})"), "Invalid filter. "),
    # selectors
    ("dense", "no selector", lambda i: i.delete(), SELECTOR),
    ("dense", "two selectors", lambda i: i.delete("a", prefix="b"), SELECTOR),
    ("dense", "all selectors", lambda i: i.delete("a", prefix="b", filter="n = 1"), SELECTOR),
    ("dense", "fetch nothing", lambda i: i.fetch(), "Only one of ids or prefix must be provided."),
    ("dense", "fetch both", lambda i: i.fetch("a", prefix="a"), "Only one of ids or prefix must be provided."),
]

CLIENT: list[tuple[str, Call]] = [
    ("NaN", lambda i: i.upsert([("c", DENSE), ("d", [float("nan"), 0.0])])),
    ("NaN in a query", lambda i: i.query([float("nan"), 0.0])),
    ("infinity", lambda i: i.resumable_query([float("inf"), 0.0])),
    ("numpy NaN", lambda i: i.query(np.array([np.nan, 0.0]))),
    ("NaN in metadata", lambda i: i.upsert([("c", DENSE), ("d", DENSE, {"k": float("nan")})])),
    ("NaN in a patch", lambda i: i.update("a", metadata={"k": float("inf")})),
    ("an object in metadata", lambda i: i.upsert([("c", DENSE), ("d", DENSE, {"k": object()})])),
    ("nothing to search for", lambda i: i.query()),
    ("text and vector", lambda i: i.query(DENSE, data="hi")),
    ("nothing to upsert", lambda i: i.upsert([])),
    ("text and vectors", lambda i: i.upsert([("c", DENSE), ("d", "text")])),
    ("no id", lambda i: i.upsert([{"vector": DENSE}])),
    ("a tuple as vector", lambda i: i.query(odd((0.1, 0.2)))),
    ("unknown fusion", lambda i: i.query(DENSE, fusion_algorithm=odd("best"))),
    ("unknown mode", lambda i: i.query(DENSE, query_mode=odd("both"))),
    ("unknown weighting", lambda i: i.query(DENSE, weighting_strategy=odd("tf"))),
    ("unknown update mode", lambda i: i.update("a", metadata={}, metadata_update_mode=odd("MERGE"))),
    ("limit 0", lambda i: i.range("", 0)),
    ("no queries", lambda i: i.query_many(queries=[])),
    ("an unknown key of a query", lambda i: i.query_many(queries=[odd({"vector": DENSE, "topK": 5})])),
    ("the default namespace", lambda i: i.delete_namespace("")),
    ("one record without its list", lambda i: i.upsert(odd(Vector("c", DENSE)))),
    ("surrogates", lambda i: i.upsert([("c", DENSE, {}, "x\ud800y")])),
    ("surrogates in a namespace", lambda i: i.upsert([("c", DENSE)], namespace="x\ud800y")),
    ("a number as namespace", lambda i: i.upsert([("c", DENSE)], namespace=odd(0))),
    ("bytes as namespace", lambda i: i.query(DENSE, namespace=odd(b"x"))),
    ("no bytes as namespace", lambda i: i.query(DENSE, namespace=odd(b""))),
    ("a list as namespace", lambda i: i.reset(odd([]))),
]


@pytest.mark.parametrize(
    ("type", "call", "text"),
    [pytest.param(kind, call, text, id=f"{kind}: {name}") for kind, name, call, text in SERVER],
)
async def test_refused_by_the_index(open_index: Opener, type: str, call: Call, text: str) -> None:
    """The index refuses a bad call with a `RefusedError` of status 422 and the documented text, and stays unchanged."""
    await refused(open_index, await filled(open_index, type), call, RefusedError, text, 422)


@pytest.mark.parametrize("call", [pytest.param(call, id=name) for name, call in CLIENT])
async def test_refused_by_the_client(open_index: Opener, call: Call) -> None:
    """What no index would accept is a `ClientError` before anything is sent."""
    index = await filled(open_index, "dense")
    await refused(open_index, index, call, ClientError, "")


async def test_what_is_not_refused(open_index: Opener) -> None:
    """Like the documented SDK, the client ignores extra keys of a record, and an update of nothing changes nothing."""
    index = await filled(open_index, "dense")
    before = state(open_index.engine(index))
    assert await index.update("a")
    assert before == state(open_index.engine(index))
    await index.upsert([{"id": "a", "vector": DENSE, "metadata": {"n": 1}, "data": "text", "colour": "red"}])
    assert before == state(open_index.engine(index))


over_http = pytest.mark.parametrize("open_index", ["sync-http", "async-http"], indirect=True)


class TestOthers:
    """Bad input that needs more than one call."""

    async def test_missing_model_is_said_before_anything(self, open_index: Opener) -> None:
        """Text is refused even in a namespace that does not exist, and makes none."""
        index = await filled(open_index, "dense")
        await refused(
            open_index, index, lambda i: i.upsert([Data("c", "hi")], namespace="new"), RefusedError, MODEL, 422
        )
        await refused(open_index, index, lambda i: i.query(data="hi", namespace="new"), RefusedError, MODEL, 422)

    async def test_bad_queries_of_missing_namespaces(self, open_index: Opener) -> None:
        """A bad query is refused even where there is nothing to search."""
        index = await filled(open_index, "dense")
        for call, text in [
            (lambda i: i.query(LONG, namespace="new"), DIMENSION),
            (lambda i: i.resumable_query(LONG, namespace="new"), DIMENSION),
            (lambda i: i.query(DENSE, namespace="new", filter="n ="), "Invalid filter."),
        ]:
            await refused(open_index, index, call, RefusedError, text, 422)

    async def test_refused_starts_open_nothing(self, open_index: Opener) -> None:
        """A refused start opens no query."""
        index = await filled(open_index, "dense")
        for more in ({"filter": "n ="}, {"top_k": 0}, {"max_idle": -1}, {"vector": [1.0]}):
            with pytest.raises(RefusedError):
                await index.resumable_query(**{"vector": DENSE, **more})  # type: ignore[arg-type]
        assert 0 == open_index.engine(index).open_queries()

    async def test_unknown_namespace(self, open_index: Opener) -> None:
        """Only deleting an unknown namespace is an error; everything else finds nothing there and makes nothing."""
        index = await filled(open_index, "dense")
        before = state(open_index.engine(index))
        assert [] == await index.query(DENSE, namespace="new")
        assert [None] == await index.fetch("a", namespace="new")
        assert [] == (await index.range("", 5, namespace="new")).vectors
        assert 0 == (await index.delete(prefix="a", namespace="new")).deleted
        assert not await index.update("a", data="x", namespace="new")
        assert "Success" == await index.reset("new")
        assert before == state(open_index.engine(index))
        await refused(
            open_index, index, lambda i: i.delete_namespace("new"), RefusedError, "Namespace new for the index ", 404
        )

    async def test_pages_out_of_range(self, open_index: Opener) -> None:
        """A page of an impossible size is refused, and the query stands where it stood."""
        index = await filled(open_index, "dense")
        page, handle = await index.resumable_query(DENSE, 1)
        async with handle:
            for size in (0, -1, 1_001, odd(1.5), odd("1"), odd(True)):
                with pytest.raises(RefusedError, match="additionalK") as caught:
                    await handle.fetch_next(size)
                assert 422 == caught.value.status
            assert ["a", "b"] == [match.id for match in page + await handle.fetch_next(1)]

    async def test_stopped_handle(self, open_index: Opener) -> None:
        """A stopped handle refuses."""
        index = await filled(open_index, "dense")
        _, handle = await index.resumable_query(DENSE)
        await handle.stop()
        await refused(open_index, index, lambda _: handle.fetch_next(1), RefusedError, "stopped", 0)
        await refused(open_index, index, lambda _: handle.stop(), RefusedError, "stopped", 0)

    async def test_empty_selectors(self, open_index: Opener) -> None:
        """An empty filter or prefix would select everything, so a delete by it is refused."""
        index = await filled(open_index, "dense")
        await refused(open_index, index, lambda i: i.delete(filter=""), RefusedError, SELECTOR, 422)
        await refused(open_index, index, lambda i: i.delete(prefix=""), RefusedError, SELECTOR, 422)

    async def test_unknown_query(self, open_index: Opener) -> None:
        """A query that is gone is told apart from other refusals."""
        index = await filled(open_index, "dense")
        _, handle = await index.resumable_query(DENSE)
        open_index.engine(index).stop(handle._state.uuid)
        await refused(open_index, index, lambda _: handle.fetch_next(1), QueryNotFound, "does not exist", 404)

    async def test_bad_patch(self, open_index: Opener) -> None:
        """A patch that would make the metadata too large leaves it as it was."""
        index = await filled(open_index, "dense")
        half = {"x": "x" * 30_000}
        assert await index.update("a", metadata=half, metadata_update_mode=MetadataUpdateMode.PATCH)
        await refused(
            open_index,
            index,
            lambda i: i.update("a", metadata={"y": "y" * 30_000}, metadata_update_mode=MetadataUpdateMode.PATCH),
            RefusedError,
            "etadata",
            422,
        )

    @over_http
    async def test_wrong_token(self, open_index: Opener) -> None:
        """A wrong token is refused for every command, in the documented words."""
        assert open_index.server is not None
        index = await filled(open_index, "dense")
        url = open_index.server.index_url(open_index.engine(index).name)
        before = state(open_index.engine(index))
        for token in ("wrong", open_index.server.token + "x", open_index.server.token.upper()):
            async with AsyncIndex(url, token, retries=0) as stranger:
                calls: list[Call] = [
                    lambda i: i.query(DENSE),
                    lambda i: i.upsert(GOOD["dense"]),
                    lambda i: i.reset(),
                    lambda i: i.resumable_query(DENSE),
                ]
                for call in calls:
                    with pytest.raises(AuthenticationError) as caught:
                        await call(stranger)
                    assert ("Unauthorized: Invalid auth token", 401) == (str(caught.value), caught.value.status)
        assert before == state(open_index.engine(index))

    @over_http
    async def test_read_only_token(self, open_index: Opener) -> None:
        """A read-only token reads, and may not write."""
        assert open_index.server is not None
        index = await filled(open_index, "dense")
        url = open_index.server.index_url(open_index.engine(index).name)
        before = state(open_index.engine(index))
        async with AsyncIndex(url, open_index.server.read_only_token, retries=0) as reader:
            page, handle = await reader.resumable_query(DENSE, 1)
            assert ["a", "b"] == [match.id for match in page + await handle.fetch_next(1)]
            await handle.stop()
            assert before == state(open_index.engine(index))
            calls: list[Call] = [
                lambda i: i.upsert(GOOD["dense"]),
                lambda i: i.update("a", data="x"),
                lambda i: i.delete("a"),
                lambda i: i.reset(),
                lambda i: i.delete_namespace("x"),
            ]
            for call in calls:
                with pytest.raises(AuthenticationError) as caught:
                    await call(reader)
                assert ("Forbidden: read-only token cannot perform write operations", 403) == (
                    str(caught.value),
                    caught.value.status,
                )
        assert before == state(open_index.engine(index))


BODIES = sorted(COMMANDS.keys() - {"info", "list-namespaces", "reset", "delete-namespace", "random", "delete"})


in_process = pytest.mark.parametrize("wire", ["dispatch"], indirect=True)  # the same bytes over HTTP would be slower


class TestWire:
    """Bodies that no client of ours would send."""

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b'{"vector": [1,]}',
            b"{'id': 'a'}",
            b'{"id": "a", "vector": [NaN]}',
            b"\xff\xfe",
            b'{"a": Infinity}',
        ],
        ids=repr,
    )
    @pytest.mark.parametrize("command", BODIES)
    @in_process
    def test_malformed_json(self, wire: Wire, command: str, body: bytes) -> None:
        """What is no JSON is 400, and changes nothing."""
        status, text = wire.error(command, body)
        assert (400, True) == (status, text.startswith("Invalid JSON"))
        assert 0 == wire.result("info", None)["vectorCount"]

    @pytest.mark.parametrize("body", ["text", 5, None, True, 1.5], ids=repr)
    @pytest.mark.parametrize("command", BODIES)
    @in_process
    def test_json_of_another_kind(self, wire: Wire, command: str, body: Any) -> None:
        """JSON that is no object is 422."""
        assert 422 == wire.error(command, body)[0]

    @pytest.mark.parametrize("body", [[], [{}], [5], {}, {"uuid": 5}, {"ids": "a"}], ids=repr)
    @pytest.mark.parametrize("command", BODIES)
    @in_process
    def test_objects_that_lack_everything(self, wire: Wire, command: str, body: Any) -> None:
        """An object without what the command needs is 422, if not an unknown query; a range needs nothing."""
        if command == "range" and body in ({}, {"uuid": 5}, {"ids": "a"}):
            assert [] == wire.result(command, body)["vectors"]
        else:
            assert 422 == wire.error(command, body)[0]

    @pytest.mark.parametrize(
        "body",
        [b"{", b'{"ids": [', b"[", b"", b"{}", b'{"ids": null}', b'{"ids": "a"}', b'{"ids": [[]]}', b"[{}]"],
        ids=repr,
    )
    def test_deletes(self, wire: Wire, body: bytes) -> None:
        """A delete that selects nothing it can understand deletes nothing."""
        wire.result("upsert", [{"id": id_, "vector": [1]} for id_ in ("a", "{", "{}", "[")])
        status, _ = wire.error("delete", body)
        assert status in (400, 422)
        assert 4 == wire.result("info", None)["vectorCount"]

    def test_delete_null(self, wire: Wire) -> None:
        """The body `null` may be the raw id of a record, and is nothing else."""
        wire.result("upsert", [{"id": "a", "vector": [1]}])
        assert {"deleted": 0} == wire.result("delete", b"null")

    def test_a_batch_fails_as_a_whole(self, wire: Wire) -> None:
        """One bad record fails the whole batch with its own error, wherever it stands."""
        good = [{"id": str(number), "vector": [1]} for number in range(5)]
        for bad, text in [
            ({"id": "x"}, NEED_DENSE),
            ({"id": "x", "vector": [1, 2]}, "Invalid vector dimension: 2, expected: 1"),
            ({"vector": [1]}, "id"),
        ]:
            for place in (0, 2, 5):
                status, reply = wire.error("upsert/new", [*good[:place], bad, *good[place:]])
                assert (422, True) == (status, text in reply)
        assert [""] == wire.result("list-namespaces", None)

    def test_a_batch_of_queries_fails_as_a_whole(self, wire: Wire) -> None:
        """One bad query fails the whole batch with its own error."""
        good, bad = {"vector": [1]}, {"vector": [1], "filter": "="}
        status, text = wire.error("query", [good, bad])
        assert (422, True) == (status, text.startswith("Invalid filter"))

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("weightingStrategy", "TF"),
            ("fusionAlgorithm", "rrf "),
            ("queryMode", "both"),
            ("topK", "10"),
            ("topK", 10.5),
            ("topK", 0),
            ("topK", 10**30),
            ("includeMetadata", "yes"),
            ("includeVectors", 1),
            ("includeData", []),
            ("exact", 1),
            ("filter", {}),
            ("vector", {"0": 1}),
            ("vector", [[1]]),
            ("vector", "1"),
            ("sparseVector", [1]),
            ("sparseVector", {"indices": [1]}),
            ("maxIdle", "60"),
        ],
        ids=repr,
    )
    def test_unknown_values(self, wire: Wire, field: str, value: Any) -> None:
        """A field with a value that it cannot have is refused by its name."""
        for command in ("query", "resumable-query"):
            if (command, field) != ("query", "maxIdle"):
                status, text = wire.error(command, {"vector": [1], field: value})
                assert (422, True) == (status, field in text)

    def test_unknown_fields(self, wire: Wire) -> None:
        """Fields that nobody knows are ignored."""
        wire.result("upsert", {"id": "a", "vector": [1], "colour": "red"})
        assert [{"id": "a", "score": 1.0}] == wire.result("query", {"vector": [1], "k": 3, "colour": "red"})

    @pytest.mark.parametrize(
        "depth",
        [
            100,
            1_000,
            100_000,
        ],
    )
    def test_deep_metadata(self, wire: Wire, depth: int) -> None:
        """Metadata may be nested however deeply, or is refused: never is it half-stored, nor is the server harmed."""
        body = b'{"id": "a", "vector": [1], "metadata": {"k": ' + b"[" * depth + b"]" * depth + b"}}"
        status, _ = wire.send("upsert", body)
        assert status in (200, 400, 422)
        count = 1 if status == 200 else 0
        assert count == wire.result("info", None)["vectorCount"]
        assert count == len(wire.result("query", {"vector": [1], "includeMetadata": True, "filter": ""}))
        assert [] == wire.result("query", {"vector": [1], "includeMetadata": True, "filter": "k.x = 1"})

    def test_odd_metadata(self, wire: Wire) -> None:
        """Odd but legal metadata is kept as it is."""
        metadata = {"": 1, "a.b": None, "🐍": "\n", "big": 2**53, "small": -1e-7, "k": [[], {}, ""]}
        wire.result("upsert", {"id": "a", "vector": [1], "metadata": metadata})
        [record] = wire.result("fetch", {"ids": ["a"], "includeMetadata": True})
        assert metadata == record["metadata"]

    @pytest.mark.parametrize("field", ["id", "data", "metadata", "key"])
    def test_nul(self, wire: Wire, field: str) -> None:
        """A NUL character is kept or refused, wherever it stands: nothing is cut off at it."""
        value: Any = {"metadata": {"k": "x\0y"}, "key": {"x\0y": 1}}.get(field, "x\0y")
        field = "metadata" if field == "key" else field
        status, _ = wire.send("upsert", {"id": "a", "vector": [1], field: value})
        assert status in (200, 422)
        flags = {"includeMetadata": True, "includeData": True}
        found = [match[field] for match in wire.result("query", {"vector": [1], **flags})]
        assert ([value] if status == 200 else []) == found

    @pytest.mark.parametrize("number", [2**63, 2**64, 10**30, -(2**63) - 1])
    @pytest.mark.parametrize("command", ["upsert", "update"])
    def test_huge_numbers_in_metadata(self, wire: Wire, number: int, command: str) -> None:
        """A whole number beyond 64 bits is refused by its key, and never rounded; the same number as a float is one."""
        wire.result("upsert", {"id": "a", "vector": [1]})
        body = f'{{"id": "a", "vector": [1], "metadata": {{"j": [{number}], "k": %s}}}}'
        status, text = wire.error(command, (body % "1").encode())
        assert (422, True) == (status, "metadata.j[0] is a whole number beyond 64 bits" in text)
        wire.result(command, (body.replace(f"[{number}]", "[]") % f"{number}.0").encode())
        [match] = wire.result("query", {"vector": [1], "includeMetadata": True})
        assert {"j": [], "k": float(number)} == match["metadata"]

    def test_deep_metadata_with_a_huge_number(self, wire: Wire) -> None:
        """A huge number in metadata that is nested too deeply to be read again is refused, too."""
        body = '{"id": "a", "vector": [1], "metadata": {"k": %s}}' % ("[" * 1_015 + "1" * 30 + "]" * 1_015)
        assert wire.error("upsert", body.encode())[0] in (400, 422)
        assert 0 == wire.result("info", None)["vectorCount"]

    def test_a_record_is_named(self, wire: Wire) -> None:
        """A refusal of one record of many names the record by its position and its id."""
        good = [{"id": str(number), "vector": [1]} for number in range(600)]
        for bad, text in [
            ({"id": "x", "vector": ["1"]}, "record 417 (id 'x'): Invalid vector.0: "),
            ({"id": 7, "vector": [1], "metadata": 5}, "record 417 (id '7'): Invalid metadata: "),
            ({"id": "x", "vector": [1, 2]}, "record 417 (id 'x'): Invalid vector dimension: 2, expected: 1"),
            ({"id": "x"}, f"record 417 (id 'x'): {NEED_DENSE}"),
            ({"id": "x", "vector": [1], "metadata": {"k": "x" * 50_000}}, "record 417 (id 'x'): Metadata is "),
            ({"id": "x", "vector": [1], "data": "x" * 1_000_001}, "record 417 (id 'x'): Invalid data: data must not"),
            ({"id": [], "vector": [1]}, "record 417: Invalid id: "),
            (5, "record 417: Invalid body: "),
        ]:
            status, reply = wire.error("upsert", [*good[:417], bad, *good[417:]])
            assert (422, True) == (status, reply.startswith(text)), reply
        assert 0 == wire.result("info", None)["vectorCount"]
