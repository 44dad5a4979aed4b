"""The surface: what it is called, that both colours agree, and that it is the documented SDK's."""

import ast
import dataclasses
import enum
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
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
from nextk.types import MetadataUpdateMode, Vector
from tests.support.subprocesses import output

ROOT = Path(nextk.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
MODULES = sorted(
    module.name for module in pkgutil.walk_packages([str(ROOT)], "nextk.") if "__main__" not in module.name
)
METHODS = sorted(name for name in vars(Index) if not name.startswith("_") and name not in ("to_async", "embedded"))


def name_of(path: Path) -> str:
    """A source file, as the tests call it."""
    return str(path.relative_to(ROOT))


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


class TestColours:
    """`Index` and `AsyncIndex`."""

    @pytest.mark.parametrize("name", ["__init__", "embedded", "close", *METHODS])
    def test_methods(self, name: str) -> None:
        """Every method has the same names, order, kinds, defaults, annotations and words in both colours."""
        ours, others = (inspect.signature(getattr(colour, name)) for colour in (Index, AsyncIndex))
        assert list(ours.parameters.values()) == list(others.parameters.values())
        returned = (
            str(others.return_annotation).replace("AsyncResumable", "Resumable").replace("async_client", "client")
        )
        assert str(ours.return_annotation) == returned
        if name != "close":
            assert inspect.getdoc(getattr(Index, name)) == inspect.getdoc(getattr(AsyncIndex, name))

    def test_the_same_methods(self) -> None:
        """Neither colour has a method that the other lacks, but for the way to the other one."""
        ours, others = ({name for name in vars(colour) if not name.startswith("_")} for colour in (Index, AsyncIndex))
        assert (ours - {"to_async"}) == (others - {"to_sync"})

    @pytest.mark.parametrize("name", METHODS)
    def test_colour(self, name: str) -> None:
        """Every method that asks the index is awaited in one colour and blocks in the other."""
        assert not inspect.iscoroutinefunction(getattr(Index, name))
        assert (name != "from_env") == inspect.iscoroutinefunction(getattr(AsyncIndex, name))

    @pytest.mark.parametrize("name", ["fetch_next", "stop"])
    def test_handles(self, name: str) -> None:
        """So do the handles."""
        ours, others = (getattr(handle, name) for handle in (ResumableQueryHandle, AsyncResumableQueryHandle))
        assert inspect.signature(ours) == inspect.signature(others)
        assert (False, True) == (inspect.iscoroutinefunction(ours), inspect.iscoroutinefunction(others))
        assert inspect.getdoc(ours) == inspect.getdoc(others)


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
        """Every noun of the SDK has the same fields, in the same order; ours may have defaults besides."""
        theirs, ours = (dataclasses.fields(getattr(types, name)) for types in (upstash_vector.types, nextk.types))
        assert [field.name for field in theirs] == [field.name for field in ours]
        for expected, field in zip(theirs, ours, strict=True):
            assert expected.default in (dataclasses.MISSING, field.default)

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
        """The dict of `query_many` has the SDK's keys."""
        theirs = upstash_vector.types.QueryRequest.__annotations__
        assert set(theirs) == set(nextk.types.QueryRequest.__annotations__)

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


def public(module: ModuleType) -> Iterator[str]:
    """The classes and functions that a module defines under public names."""
    for name, value in vars(module).items():
        defined = getattr(value, "__module__", None) == module.__name__
        if defined and not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value)):
            yield name


class TestModules:
    """Every module."""

    @pytest.mark.parametrize("name", ["nextk", *MODULES])
    def test_all(self, name: str) -> None:
        """`__all__`, where there is one, is sorted and names whatever is public; what it names exists."""
        module = importlib.import_module(name)
        listed = getattr(module, "__all__", None)
        if listed is not None:
            assert sorted(listed) == list(listed)
            assert len(set(listed)) == len(listed)
            assert set(public(module)) <= set(listed)
            assert [] == [one for one in listed if not hasattr(module, one)]

    @pytest.mark.parametrize("path", SOURCES, ids=name_of)
    def test_docstrings(self, path: Path) -> None:
        """Every module, public class, function and method says what it is for."""
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree)
        assert [] == list(undocumented(tree))

    @pytest.mark.parametrize("path", SOURCES, ids=name_of)
    def test_sizes(self, path: Path) -> None:
        """No file has more than 400 lines, and no function more than 60."""
        text = path.read_text()
        assert len(text.splitlines()) <= 400
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, node.name

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


def undocumented(node: ast.AST) -> Iterator[str]:
    """Public definitions without a docstring; setters and overloads have that of their first definition."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or child.name.startswith("_"):
            continue
        more = {ast.unparse(decorator).rpartition(".")[2] for decorator in child.decorator_list} & {
            "setter",
            "overload",
        }
        if not ast.get_docstring(child) and not more:
            yield f"{child.name}:{child.lineno}"
        if isinstance(child, ast.ClassDef):
            yield from undocumented(child)


def imports(path: Path) -> set[str]:
    """The modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def top(names: set[str]) -> set[str]:
    """The packages of modules."""
    return {name.partition(".")[0] for name in names}


class TestImports:
    """Who imports what."""

    def test_the_root_is_light(self) -> None:
        """The root loads no framework and nothing of the optional parts; nor does the client over HTTP."""
        heavy = "numpy orjson lark langchain_core llama_index starlette uvicorn wordllama snowballstemmer"
        code = f"""
import sys
import nextk, nextk.types, nextk.errors, nextk.sessions
nextk.Index("http://127.0.0.1:9", "t").close()
print([name for name in {heavy.split()!r} if name in sys.modules])
"""
        assert "[]" == output(code)

    @pytest.mark.parametrize("path", sorted((ROOT / "engine").rglob("*.py")), ids=name_of)
    def test_the_engine_knows_nothing_above(self, path: Path) -> None:
        """The engine imports no HTTP, client, framework, or anything else that stands above it."""
        found = imports(path)
        assert not top(found) & {"httpx", "starlette", "uvicorn", "anyio", "langchain_core", "llama_index"}
        below = ("nextk.engine", "nextk.arguments", "nextk.errors", "nextk.types", "nextk.bodies", "nextk.extras")
        assert [] == [name for name in found if name.startswith("nextk.") and not name.startswith(below)]

    @pytest.mark.parametrize("path", SOURCES, ids=name_of)
    def test_one_file_knows_httpx(self, path: Path) -> None:
        """HTTP is spoken in one file."""
        assert "httpx" not in top(imports(path)) or "transport/http.py" == name_of(path)

    @pytest.mark.parametrize("path", SOURCES, ids=name_of)
    def test_frameworks_stay_in_their_adapters(self, path: Path) -> None:
        """Only an adapter imports its framework."""
        used = top(imports(path)) & {"langchain", "langchain_core", "langgraph", "llama_index"}
        assert not used or name_of(path).startswith(("langchain", "llama_index", "cli", "testing"))

    @pytest.mark.parametrize("path", sorted((ROOT / "sessions").rglob("*.py")), ids=name_of)
    def test_sessions_know_no_engine(self, path: Path) -> None:
        """Sessions stand on the client alone."""
        above = ("nextk.engine", "nextk.dispatch", "nextk.server", "nextk.langchain", "nextk.llama_index")
        assert [] == [name for name in imports(path) if name.startswith(above)]


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
