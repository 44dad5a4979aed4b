"""The public API: both colours have the same one, and it is that of the documented SDK."""

import dataclasses
import enum
import importlib
import inspect
import re
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest
import upstash_vector
import upstash_vector.types

import nextk
import nextk.errors
import nextk.handle
import nextk.types
from nextk import AsyncIndex, Index, operations
from nextk.dispatch import COMMANDS
from nextk.handle import AsyncResumableQueryHandle, ResumableQueryHandle
from nextk.sessions import AsyncRetrievalSession, RetrievalSession
from nextk.types import MetadataUpdateMode, Vector
from tests.support.subprocesses import output

METHODS = sorted(name for name in dir(Index) if not name.startswith("_") and name not in ("to_async", "embedded"))


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    """Names, kinds and defaults, in order; `self` and `cls` left out."""
    return [
        (parameter.name, parameter.kind, parameter.default)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name not in ("self", "cls")
    ]


def plain(value: Any) -> Any:
    """A default, comparable between two packages."""
    return value.value if isinstance(value, enum.Enum) else value


COLOURS = [
    pytest.param(Index, AsyncIndex, {"to_async"}, {"to_sync"}, id="index"),
    pytest.param(ResumableQueryHandle, AsyncResumableQueryHandle, set(), set(), id="handle"),
    pytest.param(RetrievalSession, AsyncRetrievalSession, set(), set(), id="session"),
]
"""A blocking class, its asynchronous twin, and the methods that only one of them has."""

NEVER_AWAITED = {"cursor", "detach_uuid", "embedded", "from_env", "go_on_after_loss", "postgres"}
"""Methods that block in neither colour, and so need not be awaited in the other one."""


class TestColours:
    """A blocking class and its asynchronous twin."""

    @pytest.mark.parametrize(("blocking", "asynchronous", "only", "others"), COLOURS)
    def test_methods(self, blocking: type, asynchronous: type, only: set[str], others: set[str]) -> None:
        """Both have the same public methods, each with the same parameters, in the same order, with their types."""
        ours, theirs = (public(colour) for colour in (blocking, asynchronous))
        assert ours - only == theirs - others
        assert [] == [
            name
            for name in ("__init__", *sorted(ours - only))
            if callable(getattr(blocking, name))
            and signature(getattr(blocking, name)) != signature(getattr(asynchronous, name))
        ]

    @pytest.mark.parametrize(("blocking", "asynchronous", "only", "others"), COLOURS)
    def test_colour(self, blocking: type, asynchronous: type, only: set[str], others: set[str]) -> None:
        """Every method that asks the index is awaited in one colour and blocks in the other."""
        methods = {name for name in public(blocking) - only if inspect.isroutine(getattr(blocking, name))}
        assert set() == {name for name in methods if awaited(getattr(blocking, name))}
        assert methods - NEVER_AWAITED == {name for name in methods if awaited(getattr(asynchronous, name))}

    @pytest.mark.parametrize("name", METHODS)
    def test_documentation(self, name: str) -> None:
        """The methods of both clients are documented in the same words."""
        if name != "close":
            assert inspect.getdoc(getattr(Index, name)) == inspect.getdoc(getattr(AsyncIndex, name))

    def test_there_and_back(self) -> None:
        """Each client makes the other one, by methods of the same shape that say which one they make."""
        there, back = inspect.signature(Index.to_async), inspect.signature(AsyncIndex.to_sync)
        assert list(there.parameters.values()) == list(back.parameters.values())
        assert ("AsyncIndex", "Index") == tuple(
            str(way.return_annotation).rpartition(".")[2].strip("'\">") for way in (there, back)
        )


def public(owner: type) -> set[str]:
    """The public names that a class and those it is made of define."""
    return {name for name in dir(owner) if not name.startswith("_")}


def signature(function: Any) -> str:
    """The parameters and the result of a function, with their types as the blocking colour has them."""
    words = str(inspect.signature(function)).replace("Async", "").replace("async_client", "client")
    return re.sub(r"collections\.abc\.Awaitable\[([\w.]+)\]", r"\1", words)


def awaited(function: Any) -> bool:
    """Whether a function is called with `await` or gone through with `async for`."""
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


class TestDropIn:
    """Against the documented SDK, as installed."""

    @pytest.mark.parametrize("colour", ["Index", "AsyncIndex"])
    @pytest.mark.parametrize(
        "name",
        [name for name in dir(upstash_vector.Index) if not name.startswith("_") or name == "__init__"],
    )
    def test_methods(self, colour: str, name: str) -> None:
        """Every method of the SDK is here, with its names, order and defaults; ours may have keywords besides."""
        theirs = parameters(getattr(getattr(upstash_vector, colour), name))
        ours = parameters(getattr(getattr(nextk, colour), name))
        assert [part[:2] for part in theirs] == [part[:2] for part in ours[: len(theirs)]]
        assert {inspect.Parameter.KEYWORD_ONLY} >= {kind for _, kind, _ in ours[len(theirs) :]}
        for (_, _, expected), (_, _, default) in zip(theirs, ours, strict=False):
            assert expected is inspect.Parameter.empty or plain(expected) == plain(default)

    @pytest.mark.parametrize("colour", ["", "Async"])
    @pytest.mark.parametrize("name", ["fetch_next", "stop"])
    def test_handles(self, colour: str, name: str) -> None:
        """The handles have the SDK's methods."""
        theirs = getattr(
            importlib.import_module("upstash_vector.core.index_operations"), f"{colour}ResumableQueryHandle"
        )
        ours = getattr(nextk.handle, f"{colour}ResumableQueryHandle")
        assert parameters(getattr(theirs, name)) == parameters(getattr(ours, name))

    @pytest.mark.parametrize(
        "name",
        [name for name, kind in vars(upstash_vector.types).items() if dataclasses.is_dataclass(kind)],
    )
    def test_dataclasses(self, name: str) -> None:
        """Every noun of the SDK has the same fields in the same order; ours may have defaults, and more fields."""
        theirs, ours = (dataclasses.fields(getattr(types, name)) for types in (upstash_vector.types, nextk.types))
        shared, more = ours[: len(theirs)], ours[len(theirs) :]
        assert [field.name for field in theirs] == [field.name for field in shared]
        for expected, field in zip(theirs, shared, strict=True):
            assert expected.default in (dataclasses.MISSING, field.default)
        assert all(field.default is not dataclasses.MISSING for field in more)

    @pytest.mark.parametrize(
        "name",
        [
            name
            for name, kind in vars(upstash_vector.types).items()
            if inspect.isclass(kind) and issubclass(kind, enum.Enum) and kind is not enum.Enum
        ],
    )
    def test_enums(self, name: str) -> None:
        """Every enum of the SDK has the same members."""
        theirs, ours = getattr(upstash_vector.types, name), getattr(nextk.types, name)
        assert {member.name: member.value for member in theirs} == {member.name: member.value for member in ours}

    def test_query_request(self) -> None:
        """The dict of `query_many` has the keys of the SDK, and the one that is ours alone."""
        theirs = upstash_vector.types.QueryRequest.__annotations__
        assert {*theirs, "exact"} == set(nextk.types.QueryRequest.__annotations__)

    def test_root(self) -> None:
        """The root has the SDK's names, and no more."""
        assert ["AsyncIndex", "Index", "Vector"] == nextk.__all__
        assert Vector is nextk.types.Vector

    def test_errors(self) -> None:
        """The SDK's errors are here."""
        theirs = importlib.import_module("upstash_vector.errors")
        names = [name for name, kind in vars(theirs).items() if inspect.isclass(kind)]
        assert names
        assert all(issubclass(getattr(nextk.errors, name), Exception) for name in names)


class TestRoot:
    """The package itself."""

    def test_version(self) -> None:
        """The root knows its version."""
        try:
            assert version("nextk") == nextk.__version__
        except PackageNotFoundError:
            pytest.skip("nextk is not installed, only on the path")

    def test_unknown_name(self) -> None:
        """A name that the root does not have is an `AttributeError` that says which."""
        with pytest.raises(AttributeError, match="nothing"):
            nextk.nothing  # noqa: B018

    def test_it_is_light(self) -> None:
        """The root loads no framework and nothing of the optional parts; nor does the client over HTTP."""
        heavy = "numpy orjson lark langchain_core llama_index starlette uvicorn wordllama snowballstemmer"
        code = f"""
import sys
import nextk, nextk.types, nextk.errors, nextk.sessions
nextk.Index("http://127.0.0.1:9", "t").close()
print([name for name in {heavy.split()!r} if name in sys.modules])
"""
        assert "[]" == output(code)

    def test_an_embedded_index_needs_no_http(self) -> None:
        """The HTTP client, which is slow to import, is imported with the first index that is behind a server."""
        code = """
import sys
import nextk
nextk.Index.embedded(type="dense").close()
print([name for name in ("httpx", "httpcore") if name in sys.modules])
"""
        assert "[]" == output(code)

    def test_all_names_are_listed_before_they_are_imported(self) -> None:
        """`dir(nextk)` has the names of the root, and each of them is imported once."""
        code = """
import nextk
assert {"AsyncIndex", "Index", "Vector", "__all__"} <= {*dir(nextk)}
assert "Index" not in vars(nextk)
from nextk import AsyncIndex, Index, Vector
assert nextk.Index is Index is vars(nextk)["Index"]
"""
        assert "" == output(code)


def test_commands() -> None:
    """Everything that the client half can send, the server half answers; what only other clients send is known."""
    query: dict[str, Any] = {
        "top_k": 1,
        "include_vectors": False,
        "include_metadata": False,
        "include_data": False,
        "filter": "",
        "sparse_vector": None,
        "weighting_strategy": None,
        "fusion_algorithm": None,
        "query_mode": None,
    }
    by_vector, by_text = {**query, "vector": [1.0], "data": None}, {**query, "vector": None, "data": "x"}
    flags = {"include_vectors": False, "include_metadata": False, "include_data": False}
    parts: dict[str, Any] = {"vector": None, "data": "x", "metadata": None, "sparse_vector": None}
    sent: list[operations.Operation[Any]] = [
        operations.upsert([("a", [1.0])], ""),
        operations.upsert([("a", "x")], ""),
        operations.query("", **by_vector),
        operations.query("", **by_text),
        operations.query_many([{"data": "x"}], ""),
        operations.start("", max_idle=1, **by_vector),
        operations.start("", max_idle=1, **by_text),
        operations.fetch_next("u", 1),
        operations.stop("u"),
        operations.update("", id="a", metadata_update_mode=MetadataUpdateMode.PATCH, **parts),
        operations.fetch("", ids=["a"], prefix=None, **flags),
        operations.range_("", cursor="", limit=1, prefix=None, **flags),
        operations.delete("", ids=["a"], prefix=None, filter=None),
        operations.reset("", all=True),
        operations.info(),
        operations.list_namespaces(),
        operations.delete_namespace("x"),
    ]
    assert {"random", "rename-namespace"} == COMMANDS.keys() - {operation.command for operation in sent}
    assert set() == {operation.command for operation in sent} - COMMANDS.keys()
