"""Texts and private names of other packages that nextk relies on: each test fails when a release changes one.

The text of httpx's error about a closed client is with the other tests of the transport.
"""

import inspect
import sqlite3
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import faiss
import pytest
import upstash_vector
from langchain_community.vectorstores.upstash import UpstashVectorStore
from langchain_core.retrievers import BaseRetriever as LangChainBaseRetriever
from lark import Lark, UnexpectedToken
from llama_index.core import MockEmbedding, VectorStoreIndex
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ToolCall
from llama_index.core.base.llms.types import ChatMessage, TextBlock, ToolCallBlock
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.utils import node_to_metadata_dict
from llama_index.core.workflow import Context
from llama_index.vector_stores.faiss import FaissVectorStore
from llama_index.vector_stores.qdrant import QdrantVectorStore
from llama_index_instrumentation.dispatcher import active_instrument_tags

from nextk import Index
from nextk.engine.filter import syntax
from nextk.errors import ClientError
from nextk.llama_index.agents import context
from nextk.retrievers import record_text
from nextk.retrievers.connection import location_of

# LlamaIndex's own: its agents read pydantic's old attributes.
ignore_old_attributes = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of an index that nothing holds."""
    path = tmp_path / "index.nextk"
    Index.embedded(path, dimension=1).close()
    return path


class TestSqlite:
    """`nextk.engine.failures` reads the codes of errors, and the texts of the two that have none."""

    def test_locked(self, path: Path) -> None:
        """A database that another connection holds is busy."""
        with closing(sqlite3.connect(path, isolation_level=None)) as holder:
            holder.execute("BEGIN EXCLUSIVE")
            with pytest.raises(ClientError, match="is held by another process") as caught:
                Index.embedded(path)
        assert "SQLITE_BUSY" == sqlite_name(caught.value.__cause__)

    def test_malformed(self, path: Path) -> None:
        """A database whose first page is no tree is corrupt."""
        content = bytearray(path.read_bytes())
        content[100:108] = b"\xff" * 8  # the header of the tree, behind the header of the file
        path.write_bytes(content)
        with pytest.raises(ClientError, match="is damaged") as caught:
            Index.embedded(path)
        assert "SQLITE_CORRUPT" == sqlite_name(caught.value.__cause__)

    def test_no_database(self, path: Path) -> None:
        """Another file is no database."""
        path.write_bytes(b"no database" * 100)
        with pytest.raises(ClientError, match="is not a nextk index") as caught:
            Index.embedded(path)
        assert "SQLITE_NOTADB" == sqlite_name(caught.value.__cause__)

    def test_without_codes(self) -> None:
        """A text that is not UTF-8 cannot be decoded, and a closed database is closed."""
        connection = sqlite3.connect(":memory:")
        with pytest.raises(sqlite3.OperationalError, match=r"^Could not decode") as caught:
            connection.execute("SELECT CAST(x'ff' AS TEXT)").fetchall()
        assert None is sqlite_name(caught.value)
        connection.close()
        with pytest.raises(sqlite3.ProgrammingError, match="closed") as closed:
            connection.execute("SELECT 1")
        assert None is sqlite_name(closed.value)


def sqlite_name(error: BaseException | None) -> str | None:
    """The name of the code of an error of SQLite, or `None` if it has no code."""
    assert isinstance(error, sqlite3.Error)
    return getattr(error, "sqlite_errorname", None)


class TestLark:
    """`nextk.engine.filter.syntax` reads the names that lark gives to tokens."""

    def test_tokens(self) -> None:
        """Parentheses and the comma have names of lark's own; all names that are read are terminals of the grammar."""
        terminals = {terminal.name for terminal in syntax._grammar().terminals}
        assert {"LPAR", "RPAR", "COMMA"} <= terminals
        assert set(syntax._WORDS) - {"$END"} <= terminals
        assert terminals >= syntax._PREDICATES

    def test_the_end(self) -> None:
        """The end of the text is a token of the type `$END`, and is accepted under that name."""
        parser = Lark('start: "a" "b"', parser="lalr")
        with pytest.raises(UnexpectedToken) as caught:
            parser.parse("a")
        assert "$END" == caught.value.token.type
        interactive: Any = parser.parse_interactive("ab")  # the library leaves it half untyped
        list(interactive.iter_parse())
        assert {"$END"} == interactive.accepts()


def test_wordllama() -> None:
    """The table and the tokenizer of the static model are where they are read, inside of wordllama."""
    spec = find_spec("wordllama")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    assert (folder / "tokenizers" / "l2_supercat_tokenizer_config.json").is_file()
    assert (folder / "weights" / "l2_supercat_256.safetensors").is_file()


class TestUpstash:
    """`from_vectorstore` and `from_index` read private attributes of the Upstash SDK and of LangChain's store."""

    @pytest.mark.parametrize("kind", [upstash_vector.Index, upstash_vector.AsyncIndex])
    def test_sdk(self, kind: Any) -> None:
        """A client of the SDK keeps its URL and its headers, with a bearer token."""
        client = kind("https://example.com", "secret")
        assert {"url": "https://example.com", "token": "secret"} == location_of(client, "store")
        if kind is upstash_vector.Index:
            client._client.close()

    def test_langchain(self) -> None:
        """LangChain's store keeps its clients, the key of the text, the namespace and the model."""
        source = inspect.getsource(UpstashVectorStore.__init__)
        for name in ("_index", "_async_index", "_text_key", "_namespace", "_embeddings"):
            assert f"self.{name} =" in source


class TestLlamaIndex:
    """The adapter overrides private methods of LlamaIndex, and reads private attributes."""

    def test_query_engine(self) -> None:
        """`RefillingQueryEngine` takes the parts of a query engine, and follows nodes as its retriever does."""
        synthesizer = get_response_synthesizer(MockFunctionCallingLLM(), response_mode=ResponseMode.COMPACT)
        retriever = VectorStoreIndex([], embed_model=MockEmbedding(2)).as_retriever()
        engine = RetrieverQueryEngine.from_args(
            retriever, llm=MockFunctionCallingLLM(), response_synthesizer=synthesizer
        )
        assert synthesizer is engine._response_synthesizer
        assert [] == engine._node_postprocessors
        for name in ("_handle_recursive_retrieval", "_ahandle_recursive_retrieval"):
            assert ["self", "query_bundle", "nodes"] == list(inspect.signature(getattr(BaseRetriever, name)).parameters)

    def test_vector_store_index(self) -> None:
        """`from_index` takes the model, the objects and the callbacks of an index."""
        model = MockEmbedding(2)
        index = VectorStoreIndex([], embed_model=model)
        assert model is index._embed_model
        assert {} == index._object_map
        assert index._callback_manager is not None

    def test_vector_stores(self) -> None:
        """A source reads an index's ids and docstore, and whether a store can be awaited or gives distances."""
        index = VectorStoreIndex([TextNode(text="x", id_="n")], embed_model=MockEmbedding(2))
        assert {"n": "n"} == index.index_struct.nodes_dict
        assert ["n"] == [node.node_id for node in index.docstore.get_nodes(["n", "gone"], raise_error=False)]
        assert not index.vector_store.stores_text
        assert "aquery" not in vars(SimpleVectorStore)
        assert "self._aclient = aclient" in inspect.getsource(QdrantVectorStore.__init__)
        assert "self._aclient is None" in inspect.getsource(QdrantVectorStore._ensure_async_client)
        assert 0 == faiss.METRIC_INNER_PRODUCT == faiss.IndexFlatIP(2).metric_type
        assert 0 != FaissVectorStore(faiss.IndexFlatL2(2)).client.metric_type

    def test_stored_nodes(self) -> None:
        """A node that a store of LlamaIndex writes is kept whole under the keys that are read."""
        node = TextNode(text="x", relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id="parent")})
        metadata = node_to_metadata_dict(node, remove_text=True, flat_metadata=False)
        assert {record_text.NODE, record_text._NODE_TYPE, *record_text._PARENT} <= metadata.keys()
        alone = node_to_metadata_dict(TextNode(text="x"), remove_text=True, flat_metadata=False)
        assert record_text._NO_PARENT == alone["ref_doc_id"]

    @ignore_old_attributes
    async def test_the_call_that_is_made(self) -> None:
        """Inside a tool of an agent, the step's event is the call, and the run and the question are known."""
        seen: list[Any] = []

        async def look(ctx: Context[Any]) -> str:
            """Look around."""
            run = active_instrument_tags.get().get("llamaindex.run_id")
            seen.extend([context._current_event(), run, await ctx.store.get("user_msg_str", default=None)])
            return "seen"

        def speak(messages: list[ChatMessage], **_: Any) -> ChatMessage:
            call = ToolCallBlock(tool_call_id="c1", tool_name="look", tool_kwargs={})
            return ChatMessage(role="assistant", blocks=[TextBlock(text="done") if len(messages) > 1 else call])

        model = MockFunctionCallingLLM(response_generator=speak)
        agent = AgentWorkflow([FunctionAgent(name="a", description="b", tools=[look], llm=model, streaming=False)])
        await agent.run("the question")
        event, run, question = seen
        assert isinstance(event, ToolCall)
        assert "c1" == event.tool_id
        assert isinstance(run, str)
        assert "the question" == question


def test_langsmith_parameters() -> None:
    """LangChain asks a retriever for what LangSmith shows under the name that the adapter overrides."""
    kinds = [
        parameter.kind for parameter in inspect.signature(LangChainBaseRetriever._get_ls_params).parameters.values()
    ]
    assert [inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.VAR_KEYWORD] == kinds
