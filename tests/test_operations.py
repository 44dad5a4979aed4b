"""The client half of the protocol, without I/O: what a call sends, what a reply becomes, what may be repeated."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk import Vector, operations
from nextk.errors import ClientError
from nextk.operations import Operation, Page, Repeat
from nextk.transport.encoding import encode
from nextk.types import (
    Data,
    DeleteResult,
    FetchResult,
    FusionAlgorithm,
    InfoResult,
    MetadataUpdateMode,
    NamespaceInfo,
    QueryMode,
    QueryRequest,
    QueryResult,
    RangeResult,
    SparseIndexInfo,
    SparseVector,
    WeightingStrategy,
)

FLAGS = {"include_vectors": False, "include_metadata": False, "include_data": False}
WIRE_FLAGS = {"includeVectors": False, "includeMetadata": False, "includeData": False}
NO_QUERY: dict[str, Any] = {
    "vector": None,
    "top_k": 10,
    "filter": "",
    "data": None,
    "sparse_vector": None,
    "weighting_strategy": None,
    "fusion_algorithm": None,
    "query_mode": None,
    **FLAGS,
}
WIRE_QUERY = {"topK": 10, "filter": "", **WIRE_FLAGS}


def query(namespace: str | None = "", **given: Any) -> Operation[list[QueryResult]]:
    """A plain query."""
    return operations.query(namespace, **{**NO_QUERY, **given})


def start(namespace: str | None = "", **given: Any) -> Operation[Any]:
    """A resumable one."""
    return operations.start(namespace, **{"max_idle": 3600, **NO_QUERY, **given})


def upsert_dict(**keys: Any) -> Operation[str]:
    """An upsert of one record, given as a dict that has further keys."""
    return operations.upsert([{"id": "a", "vector": [1.0], **keys}], "")


def query_many(**keys: Any) -> Operation[Any]:
    """Two queries, the second of which has further keys."""
    second: Any = {"vector": [1.0], **keys}
    return operations.query_many([{"vector": [1.0]}, second], "")


def update(**given: Any) -> Operation[bool]:
    """An update of the record "a"."""
    absent = {"vector": None, "data": None, "metadata": None, "sparse_vector": None}
    mode = MetadataUpdateMode.OVERWRITE
    return operations.update("", **{"id": "a", "metadata_update_mode": mode, **absent, **given})


def delete(**given: Any) -> Operation[DeleteResult]:
    """A delete."""
    return operations.delete("", **{"ids": None, "prefix": None, "filter": None, **given})


def fetch(**given: Any) -> Operation[list[FetchResult | None]]:
    """A fetch."""
    return operations.fetch("", **{"ids": None, "prefix": None, **FLAGS, **given})


def range_(**given: Any) -> Operation[RangeResult]:
    """A range."""
    return operations.range_("", **{"cursor": "", "limit": 1, "prefix": None, **FLAGS, **given})


SPARSE = SparseVector([1, -7], [0.5, 2.0])
WIRE_SPARSE = {"indices": [1, -7], "values": [0.5, 2.0]}


@pytest.mark.parametrize(
    ("operation", "path", "body"),
    [
        (query(vector=[1.0, 2]), "query", {**WIRE_QUERY, "vector": [1.0, 2]}),
        (query(vector=np.array([1.0, 2.0])), "query", {**WIRE_QUERY, "vector": [1.0, 2.0]}),
        (query("x", sparse_vector=SPARSE), "query/x", {**WIRE_QUERY, "sparseVector": WIRE_SPARSE}),
        (query(sparse_vector=([1, -7], [0.5, 2.0])), "query", {**WIRE_QUERY, "sparseVector": WIRE_SPARSE}),
        (query(data="hi", top_k=3), "query-data", {**WIRE_QUERY, "topK": 3, "data": "hi"}),
        (query(data=""), "query-data", {**WIRE_QUERY, "data": ""}),
        (query(vector=[]), "query", {**WIRE_QUERY, "vector": []}),
        (
            query(
                vector=[1.0],
                sparse_vector=SPARSE,
                include_vectors=True,
                filter="n = 1",
                weighting_strategy=WeightingStrategy.IDF,
                fusion_algorithm=FusionAlgorithm.DBSF,
                query_mode=QueryMode.DENSE,
            ),
            "query",
            {
                **WIRE_QUERY,
                "includeVectors": True,
                "filter": "n = 1",
                "vector": [1.0],
                "sparseVector": WIRE_SPARSE,
                "weightingStrategy": "IDF",
                "fusionAlgorithm": "DBSF",
                "queryMode": "DENSE",
            },
        ),
        (start("x", vector=[1.0]), "resumable-query/x", {**WIRE_QUERY, "maxIdle": 3600, "vector": [1.0]}),
        (start(data="hi", max_idle=5), "resumable-query-data", {**WIRE_QUERY, "maxIdle": 5, "data": "hi"}),
        (operations.fetch_next("u", 5), "resumable-query-next", {"uuid": "u", "additionalK": 5}),
        (operations.stop("u"), "resumable-query-end", {"uuid": "u"}),
        (operations.upsert([("a", [1.0])], ""), "upsert", [{"id": "a", "vector": [1.0]}]),
        (operations.upsert([Data(7, "hi", {})], "x"), "upsert-data/x", [{"id": 7, "data": "hi", "metadata": {}}]),
        (operations.upsert([("a", "hi")], ""), "upsert-data", [{"id": "a", "data": "hi"}]),
        (operations.upsert([Vector("a", data="hi")], ""), "upsert-data", [{"id": "a", "data": "hi"}]),
        (operations.upsert([{"id": "a", "data": "hi"}], ""), "upsert-data", [{"id": "a", "data": "hi"}]),
        (update(metadata={}), "update", {"id": "a", "metadata": {}, "metadataUpdateMode": "OVERWRITE"}),
        (
            update(id=3, vector=[1.0], sparse_vector=SPARSE, data="", metadata_update_mode=MetadataUpdateMode.PATCH),
            "update",
            {"id": 3, "vector": [1.0], "sparseVector": WIRE_SPARSE, "data": "", "metadataUpdateMode": "PATCH"},
        ),
        (delete(ids="a"), "delete", {"ids": ["a"]}),
        (delete(ids=["a", 1]), "delete", {"ids": ["a", 1]}),
        (delete(prefix=""), "delete", {"prefix": ""}),
        (delete(filter="n = 1"), "delete", {"filter": "n = 1"}),
        (fetch(ids="a"), "fetch", {"ids": ["a"], **WIRE_FLAGS}),
        (fetch(ids=[]), "fetch", {"ids": [], **WIRE_FLAGS}),
        (fetch(prefix="p"), "fetch", {"prefix": "p", **WIRE_FLAGS}),
        (range_(), "range", {"cursor": "", "limit": 1, **WIRE_FLAGS}),
        (range_(cursor="5", limit=7, prefix="p"), "range", {"cursor": "5", "limit": 7, "prefix": "p", **WIRE_FLAGS}),
        (operations.reset("", all=False), "reset", None),
        (operations.reset("x", all=False), "reset/x", None),
        (operations.reset("x", all=True), "reset?all", None),
        (operations.info(), "info", None),
        (operations.list_namespaces(), "list-namespaces", None),
        (operations.delete_namespace("x"), "delete-namespace/x", None),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_requests(operation: Operation[Any], path: str, body: Any) -> None:
    """Every call becomes the documented path and body; what was not given is not sent."""
    assert path == operation.path
    assert (None if body is None else json.loads(json.dumps(body))) == (json.loads(encode(operation) or b"null"))


@pytest.mark.parametrize(
    ("command", "repeat"),
    [
        (query(vector=[1.0]), Repeat.ALWAYS),
        (start(vector=[1.0]), Repeat.UNLESS_SENT),
        (start(data="hi"), Repeat.UNLESS_SENT),
        (operations.fetch_next("u", 1), Repeat.UNLESS_SENT),
        (start(vector=[1.0], uuid="u"), Repeat.NUMBERED),
        (start(data="hi", uuid="u"), Repeat.NUMBERED),
        (operations.fetch_next("u", 1, 2), Repeat.NUMBERED),
        (operations.stop("u"), Repeat.STOP),
        (operations.upsert([("a", [1.0])], ""), Repeat.ALWAYS),
        (update(data="x"), Repeat.ALWAYS),
        (delete(ids="a"), Repeat.ALWAYS),
        (fetch(ids="a"), Repeat.ALWAYS),
        (range_(), Repeat.ALWAYS),
        (operations.reset("", all=True), Repeat.ALWAYS),
        (operations.info(), Repeat.ALWAYS),
    ],
    ids=lambda part: part.command if isinstance(part, Operation) else "",
)
def test_repeat_rules(command: Operation[Any], repeat: Repeat) -> None:
    """Only the start and the pages of a resumable query must not be sent twice; a stop may, and numbered ones."""
    assert repeat is command.repeat
    assert command.patient


class TestExact:
    """The extension by which a query wants exact order."""

    def test_bodies(self) -> None:
        """The field is sent if it is true, and else no server is told of it."""
        assert {**query(data="hi").body, "exact": True} == query(data="hi", exact=True).body
        assert {**start(data="hi").body, "exact": True} == start(data="hi", exact=True).body
        assert query(data="hi").body == query(data="hi", exact=False).body
        many = operations.query_many([{"vector": [1.0], "exact": True}, {"vector": [1.0], "exact": False}], "")
        assert [True, None] == [body.get("exact") for body in many.body]

    def test_operations(self) -> None:
        """An operation says whether any of its queries wants exact order."""
        one, other = QueryRequest(vector=[1.0], exact=True), QueryRequest(vector=[1.0])
        wanting = [query(data="hi", exact=True), start(data="hi", exact=True), start(data="hi", uuid="u", exact=True)]
        wanting += [operations.query_many(queries, "") for queries in ([one], [other, one])]
        others = [query(data="hi"), start(data="hi"), operations.query_many([other, other], ""), operations.info()]
        assert [True] * 5 + [False] * 4 == [operation.exact for operation in (*wanting, *others)]


class TestNumberedPages:
    """The extension by which a start or a page may be requested again."""

    def test_bodies(self) -> None:
        """A start carries its uuid and a page its number, beside what they carry without."""
        assert {**start(data="hi").body, "uuid": "u"} == start(data="hi", uuid="u").body
        assert {"uuid": "u", "additionalK": 3, "pageNumber": 2} == operations.fetch_next("u", 3, 2).body

    def test_the_uuid_of_a_start(self) -> None:
        """Only a start has a uuid of the client's own, and only if it was given one."""
        named = [start(data="hi", uuid="u"), start(data="hi"), operations.fetch_next("v", 1, 2), operations.stop("v")]
        assert ["u", None, None, None] == [operation.own_uuid for operation in named]
        assert operations.upsert([("a", [1.0])], "").own_uuid is None

    def test_a_page(self) -> None:
        """A page says whether the server has said its number; a bare list is a page without one."""
        matches, wire = [QueryResult("a", 0.5)], [{"id": "a", "score": 0.5}]
        numbered, plain = operations.fetch_next("u", 1, 2).parse, operations.fetch_next("u", 1).parse
        assert Page(matches, numbered=True) == numbered({"pageNumber": 2, "scores": wire})
        assert Page(matches) == numbered(wire) == plain(wire)

    @pytest.mark.parametrize(
        "result",
        [{"pageNumber": 3, "scores": []}, {"scores": []}, {"pageNumber": "2", "scores": []}, {"pageNumber": 2}, None],
        ids=["another number", "no number", "a text", "no matches", "null"],
    )
    def test_a_page_of_another_shape(self, result: Any) -> None:
        """A page of another number, or of another shape, is none."""
        with pytest.raises((ValueError, TypeError, KeyError)):
            operations.fetch_next("u", 1, 2).parse(result)

    def test_a_number_that_nobody_asked_for(self) -> None:
        """A page that was requested without a number comes as a bare list."""
        with pytest.raises((ValueError, TypeError, KeyError)):
            operations.fetch_next("u", 1).parse({"pageNumber": 2, "scores": []})


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_namespaces_survive_the_path(namespace: str) -> None:
    """Any namespace can be read back from the path, which is plain ASCII without dot segments."""
    path = operations.target("query", namespace)
    command, _, rest = path.partition("/")
    assert ("query", namespace) == (command, unquote(rest))
    assert path.isascii()
    assert not set(path) & set(" ?#\\\n")
    assert not {".", ".."} & set(path.split("/"))


class TestReplies:
    """What a reply becomes."""

    def test_matches(self) -> None:
        """A match has what the reply has, and `None` for the rest; unknown keys are ignored."""
        sparse = {"indices": [1], "values": [2.0]}
        full = {"id": "a", "score": 1, "vector": [1], "sparseVector": sparse, "metadata": {"k": None}, "data": "t"}
        [bare, match] = query(vector=[1.0]).parse([{"id": "b", "score": 0.5, "new": 1}, full])
        assert QueryResult("b", 0.5) == bare
        assert QueryResult("a", 1.0, [1.0], {"k": None}, "t", SparseVector([1], [2.0])) == match

    def test_start(self) -> None:
        """A start gives the uuid, possibly empty, and the first page."""
        match = QueryResult("a", 0.5)
        parse = start(vector=[1.0]).parse
        assert ("u", [match]) == parse({"uuid": "u", "scores": [{"id": "a", "score": 0.5}]})
        assert ("", []) == parse({"uuid": "", "scores": []})

    def test_others(self) -> None:
        """Every other reply becomes its documented value."""
        assert "Success" == operations.upsert([("a", [1.0])], "").parse("Success")
        assert [True, False] == [update(data="x").parse({"updated": count}) for count in (1, 0)]
        assert DeleteResult(3) == delete(ids="a").parse({"deleted": 3})
        assert [FetchResult("a"), None] == fetch(ids="ab").parse([{"id": "a"}, None])
        assert RangeResult("4", [FetchResult("a")]) == range_().parse({"nextCursor": "4", "vectors": [{"id": "a"}]})
        assert ["", "x"] == operations.list_namespaces().parse(["", "x"])
        assert operations.stop("u").parse("Success") is None
        info = {
            "vectorCount": 2,
            "pendingVectorCount": 1,
            "indexSize": 3,
            "dimension": 0,
            "similarityFunction": "",
            "indexType": "SPARSE",
            "denseIndex": None,
            "sparseIndex": {"embeddingModel": "BM25"},
            "namespaces": {"": {"vectorCount": 2, "pendingVectorCount": 1}},
        }
        expected = InfoResult(2, 1, 3, 0, "", None, SparseIndexInfo("BM25"), {"": NamespaceInfo(2, 1)}, "SPARSE")
        assert expected == operations.info().parse(info)

    @pytest.mark.parametrize(
        ("operation", "reply"),
        [
            (query(vector=[1.0]), None),
            (query(vector=[1.0]), {}),
            (query(vector=[1.0]), [{"id": "a"}]),
            (query(vector=[1.0]), [{"score": 1.0}]),
            (query(vector=[1.0]), [{"id": "a", "score": "high"}]),
            (start(vector=[1.0]), []),
            (start(vector=[1.0]), {"scores": []}),
            (start(vector=[1.0]), {"uuid": None, "scores": []}),
            (start(vector=[1.0]), {"uuid": "u"}),
            (operations.fetch_next("u", 1), {"scores": []}),
            (update(data="x"), {}),
            (delete(ids="a"), 3),
            (range_(), {"nextCursor": "1"}),
            (operations.info(), {"vectorCount": 1}),
        ],
        ids=lambda part: part.command if isinstance(part, Operation) else repr(part),
    )
    def test_malformed(self, operation: Operation[Any], reply: Any) -> None:
        """A reply of another shape is an error that the transports know, never a wrong value."""
        with pytest.raises((ValueError, TypeError, KeyError)):
            operation.parse(reply)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: query(), "vector"),
        (lambda: query(vector=[1.0], data="hi"), "data"),
        (lambda: start(sparse_vector=SPARSE, data="hi"), "data"),
        (lambda: start(), "vector"),
        (lambda: query(vector=(1.0, 2.0)), "vector must be a list"),
        (lambda: query(vector="12"), "vector must be a list"),
        (lambda: query(vector=np.float64(1)), "vector must be a list"),
        (lambda: query(sparse_vector=([1],)), "two parts"),
        (lambda: query(sparse_vector=([1], [1.0], [2.0])), "two parts"),
        (lambda: query(sparse_vector=[1, 2]), "sparse_vector must be"),
        (lambda: query(sparse_vector={1: 2.0}), "sparse_vector must be"),
        (lambda: query(sparse_vector=SparseVector("1", [1.0])), "indices must be a list"),  # type: ignore[arg-type]
        (lambda: query(vector=[1.0], fusion_algorithm="best"), "fusion_algorithm='best' is not one of 'rrf', 'dbsf'"),
        (lambda: query(vector=[1.0], query_mode="both"), "query_mode='both' is not one of 'hybrid', 'dense', 'sparse'"),
        (lambda: query(vector=[1.0], weighting_strategy="tf"), "weighting_strategy='tf' is not one of 'idf'"),
        (lambda: operations.query_many([], ""), "at least one"),
        (lambda: operations.query_many([{"data": "x"}, {"vector": [1.0]}], ""), "not both"),
        (lambda: query_many(topK=5), r"^query 1 has the unknown key 'topK' \(did you mean top_k\?\)$"),
        (lambda: query_many(include_meta=True), r"'include_meta' \(did you mean include_metadata\?\)$"),
        (lambda: query_many(zzz=1), r"'zzz': give one of vector, top_k, include_vectors, "),
        (lambda: query_many(namespace="x"), r"^query 1 .* search one, query_many\(namespace=...\)$"),
        (lambda: operations.query_many(["text"], ""), "query 0 of query_many has to be a dict"),  # type: ignore[list-item]
        (lambda: operations.query_many([{"vector": [1.0]}, {"data": "x"}], ""), "not both"),
        (lambda: operations.upsert([], ""), "at least one"),
        (lambda: operations.upsert([("a", "text"), ("b", [1.0])], ""), "not both"),
        (lambda: operations.upsert([("a",)], ""), "tuple"),
        (lambda: operations.upsert([("a", [1.0], {}, "text", 5)], ""), "too many"),
        (lambda: operations.upsert(["a"], ""), "a record is"),  # type: ignore[list-item]
        (lambda: operations.upsert([{"vector": [1.0]}], ""), "id"),
        (lambda: operations.upsert([("a", {"k": 1})], ""), "vector must be a list"),
        (lambda: upsert_dict(sparseVector=SPARSE), r"unknown key 'sparseVector' \(did you mean sparse_vector\?\)$"),
        (lambda: upsert_dict(meta_data={}), r"unknown key 'meta_data' \(did you mean metadata\?\)$"),
        (lambda: upsert_dict(vectors=[1.0]), r"unknown key 'vectors' \(did you mean vector\?\)$"),
        (lambda: upsert_dict(namespace="x"), r"the key 'namespace': .* upsert\(namespace=...\)$"),
        (lambda: range_(limit=0), "limit"),
        (lambda: range_(limit=-1), "limit"),
        (lambda: operations.delete_namespace(""), "default namespace"),
    ],
)
def test_misuse(call: Callable[[], object], match: str) -> None:
    """What no server would accept is refused at once, in words that say what to give instead."""
    with pytest.raises(ClientError, match=match):
        call()


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (None, "record 2: a record is a Vector, a Data, a dict or a tuple, not NoneType"),
        (["x", [1.0]], "record 2: a record is a "),
        ({"vector": [1.0]}, "record 2: a record needs an id"),
        ((), "record 2: a record given as a tuple starts with"),
        (("x",), "record 2 (id 'x'): a record given as a tuple starts with"),
        ({"id": "x", "vector": [1.0], "metdata": {}}, "record 2 (id 'x'): a record has the unknown key 'metdata'"),
        ({"id": 7, "vector": [1.0], "namespace": "n"}, "record 2 (id '7'): a record has the key 'namespace'"),
        (("x", [1.0], {}, "text", 5), "record 2 (id 'x'): a record given as a tuple has 1 part(s) too many"),
        (Vector("x", "12"), "record 2 (id 'x'): vector must be a list"),  # type: ignore[arg-type]
        (("x", {"k": 1}), "record 2 (id 'x'): vector must be a list"),
        (("x", ([1], [1.0], [2.0])), "record 2 (id 'x'): a sparse vector given as a tuple has two parts"),
        ({"id": "x", "vector": [1.0], "sparse_vector": {1: 2.0}}, "record 2 (id 'x'): sparse_vector must be a "),
        (("x", "text"), "record 2 (id 'x'): upsert takes texts to embed or vectors, not both in one call; this "),
        (Data("x", "text"), "record 2 (id 'x'): upsert takes texts to embed or vectors, not both in one call; this "),
    ],
)
def test_a_bad_record_is_named(bad: Any, named: str) -> None:
    """A record that has no form of a record is named by its position and, if it has one, by its id."""
    with pytest.raises(ClientError) as caught:
        operations.upsert([("a", [1.0]), Vector("b", [1.0]), bad, ("c", [1.0])], "")
    assert str(caught.value).startswith(named)


@pytest.mark.parametrize("given", [None, 5, "text", Vector("a", [1.0])])
def test_no_list_of_records(given: Any) -> None:
    """One record, or anything else that is no list, is refused in words that ask for a list."""
    with pytest.raises(ClientError, match=r"^upsert takes a list of records, not one "):
        operations.upsert(given, "")


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ({"vector": [1.0], "fusion_algorithm": "best"}, "fusion_algorithm='best' is not one of 'rrf', 'dbsf'"),
        ({"vector": [1.0], "query_mode": "both"}, "query_mode='both' is not one of "),
        ({"vector": (1.0,)}, "vector must be a list"),
        ({"sparse_vector": [1]}, "sparse_vector must be"),
        ({"vector": [1.0], "data": "text"}, "a query is by data"),
        ({}, "a query is by data"),
    ],
)
def test_a_bad_query_is_named(bad: Any, complaint: str) -> None:
    """A query of a batch that no index would answer is named by its position, before the words of a single query."""
    with pytest.raises(ClientError) as caught:
        operations.query_many([{"vector": [1.0]}, bad], "")
    assert str(caught.value).startswith(f"query 1: {complaint}")
    with pytest.raises(ClientError) as single:
        query(**bad)
    assert str(caught.value) == f"query 1: {single.value}"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_without_a_word(value: float) -> None:
    """NaN and infinity have no word in JSON, so they are refused before anything is sent."""
    for operation in (query(vector=[value]), operations.upsert([("a", [1.0], {"k": value})], "")):
        with pytest.raises(ClientError, match="JSON"):
            encode(operation)


def test_objects_without_a_word() -> None:
    """Nor has an object of another kind, such as a set as metadata."""
    for metadata in ({"k": {1, 2}}, {"k": object()}):
        with pytest.raises(ClientError, match=r"^upsert: record 0 \(id 'a'\): metadata\.k is an? (set|object); give"):
            encode(operations.upsert([("a", [1.0], metadata)], ""))


def test_numbers_of_numeric_libraries() -> None:
    """A number or an array of numpy is sent as what it holds, wherever it stands."""
    body = json.loads(encode(operations.fetch_next("u", np.int64(3))))  # type: ignore[arg-type]
    assert {"uuid": "u", "additionalK": 3} == body
    metadata = {"k": np.float32(0.5), "a": np.array([1, 2])}
    assert {"k": 0.5, "a": [1, 2]} == json.loads(encode(operations.upsert([("a", [1.0], metadata)], "")))[0]["metadata"]


def test_lone_surrogates() -> None:
    """Text that is no Unicode cannot be sent, and says so."""
    with pytest.raises(ClientError):
        encode(query(data="x\ud800y"))


def test_plain_words_for_enums() -> None:
    """Enum members may be given as plain words, in any case."""
    given = query(vector=[1.0], fusion_algorithm="dbsf", query_mode="Sparse", weighting_strategy="IDF").body
    assert ("DBSF", "SPARSE", "IDF") == (given["fusionAlgorithm"], given["queryMode"], given["weightingStrategy"])


def test_query_many_keeps_every_parameter() -> None:
    """Each query of a batch has all the parameters of its own, the mode included."""
    requests: list[QueryRequest] = [{"data": "a", "query_mode": QueryMode.SPARSE}, {"data": "b", "top_k": 2}]
    operation = operations.query_many(requests, "x")
    expected = [{**WIRE_QUERY, "data": "a", "queryMode": "SPARSE"}, {**WIRE_QUERY, "data": "b", "topK": 2}]
    assert ("query-data/x", expected) == (operation.path, operation.body)
    [page] = operations.query_many(requests[:1], "").parse([{"id": "a", "score": 1.0}])
    assert [QueryResult("a", 1.0)] == page


def test_operations_are_values() -> None:
    """Building an operation does not change what it was built from."""
    records = [{"id": "a", "vector": [1.0], "metadata": {"k": 1}}]
    before = json.dumps(records)
    operations.upsert(records, "")
    assert before == json.dumps(records)
