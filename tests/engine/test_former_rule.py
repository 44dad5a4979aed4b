"""An index that was made by the former rule of words of `"bm25"` goes on with it, and says so when it is opened."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.schema import TextNode

from nextk import AsyncIndex, Index, langchain, llama_index
from nextk.cli.main import main
from nextk.engine import keywords
from nextk.engine.factory import open_engine
from nextk.engine.text.bm25 import BM25, FORMER
from nextk.errors import ClientError
from nextk.server.engines import open_engines
from nextk.server.spec import parse_specs
from nextk.types import Data, QueryMode, SparseVector

TEXT = "员工每年享有十五天带薪年假。 annual leave"
MODELS = {"embedding": "static", "sparse_embedding": "bm25"}
FORMER_IDENTITY = "bm25(k1=1.2, b=0.75, average_length=32, version=1)"


def by_path(path: Path) -> None:
    """Open an index by its path alone."""
    Index.embedded(path).close()


def by_model(path: Path) -> None:
    """Open an index with the name of its sparse model."""
    Index.embedded(path, sparse_embedding="bm25").close()


def by_same_model(path: Path) -> None:
    """Open an index with the words that its models make the same vectors."""
    Index.embedded(path, **MODELS, same_model=True).close()  # type: ignore[arg-type]


def by_async_index(path: Path) -> None:
    """Open an index by the asynchronous client."""

    async def opened() -> None:
        await AsyncIndex.embedded(path, sparse_embedding="bm25").close()

    asyncio.run(opened())


def by_texts(path: Path) -> None:
    """Add texts to an index by LangChain's retriever."""
    langchain.ResumableRetriever.from_texts(["带薪年假"], path=path).close()


def by_nodes(path: Path) -> None:
    """Add nodes to an index by LlamaIndex's retriever."""
    llama_index.ResumableRetriever.from_nodes([TextNode(text="带薪年假")], path=path).close()


def by_server(path: Path) -> None:
    """Serve an index."""
    with open_engines(parse_specs([f"{path.stem}=hybrid,embedding=static,sparse_embedding=bm25"]), path.parent):
        pass


def by_command(path: Path) -> None:
    """Let the command line tell what an index holds."""
    assert 0 == main(["info", "--index", str(path)])


WAYS = [by_path, by_model, by_same_model, by_async_index, by_texts, by_nodes, by_server, by_command]


@pytest.fixture
def former(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of an index with one text, made by the former rule."""
    path = tmp_path / "notes.nextk"
    with monkeypatch.context() as patched:
        patched.setattr(keywords, "sparse_model", lambda _: FORMER)
        with Index.embedded(path, **MODELS) as index:  # type: ignore[arg-type]
            index.upsert([Data("before", TEXT)])
    return path


def vector_of(index: Index, id_: str) -> SparseVector:
    """The sparse vector of a record."""
    (record,) = index.fetch([id_], include_vectors=True)
    assert record is not None
    assert record.sparse_vector is not None
    return record.sparse_vector


class TestFormerRule:
    """The rule of version 1."""

    def test_vectors(self) -> None:
        """The vectors of version 1 are those that it made: whole runs of letters and numbers, cut at marks."""
        document = FORMER.embed_documents(["Café 年假有十五天 क्षमा"])[0]
        terms = [414007989, 481105812, 1885590262, 2055584720]
        assert dict.fromkeys(terms, 1.557522177696228) == dict(
            zip(document.indices.tolist(), document.values.tolist(), strict=True)
        )

    @pytest.mark.parametrize("opened", WAYS)
    def test_is_kept(self, former: Path, opened: Callable[[Path], None], caplog: pytest.LogCaptureFixture) -> None:
        """An index goes on with the rule that made it, however it is opened; each opening says so once."""
        opened(former)
        (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert warning.startswith(f"{former} was made by the former rule of words")
        assert "give Index.embedded, from_texts, from_documents or from_nodes a new path" in warning
        assert "`nextk ingest FOLDER --index NEW_FILE`" in warning
        with Index.embedded(former) as index:
            index.upsert([Data("after", TEXT)])
            assert FORMER_IDENTITY == index.info().sparse_embedding_identity
            assert vector_of(index, "before") == vector_of(index, "after")
            assert {"before", "after"} <= {match.id for match in index.query(data="带薪年假", top_k=9)}

    def test_of_unknown_identity(self, former: Path, caplog: pytest.LogCaptureFixture) -> None:
        """An index that was made before identities were stored is one of the former rule, and stores that."""
        engine = open_engine(former, {})
        engine.complete_schema(lambda schema: replace(schema, sparse_embedding_identity=""))
        engine.close()
        caplog.clear()
        with Index.embedded(former, sparse_embedding="bm25") as index:
            assert FORMER_IDENTITY == index.info().sparse_embedding_identity
        assert 1 == len(caplog.records)

    def test_open_already(self, former: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A further client of an index that is open takes its rule too, and is not told again."""
        with Index.embedded(former) as index, Index.embedded(former, **MODELS) as further:  # type: ignore[arg-type]
            further.upsert([Data("after", TEXT)])
            assert vector_of(index, "before") == vector_of(index, "after")
        assert 1 == len(caplog.records)

    def test_another_model_is_refused(self, former: Path) -> None:
        """A model of the caller's own is refused, as by every index of another model."""
        with pytest.raises(ClientError, match=r"version=1.*same_model=True"):
            Index.embedded(former, sparse_embedding=lambda texts: [{1: 1.0} for _ in texts])


class TestPresentRule:
    """The rule of version 2."""

    def test_made_anew(self, former: Path, caplog: pytest.LogCaptureFixture) -> None:
        """An index made anew from the texts that the former one holds has the present rule, as its identity tells."""
        with Index.embedded(former) as old:
            records = old.range(limit=9, include_data=True, include_metadata=True).vectors
        caplog.clear()
        with Index.embedded(former.with_name("anew.nextk"), **MODELS) as index:  # type: ignore[arg-type]
            index.upsert([Data(record.id, record.data or "", record.metadata) for record in records])
            assert ["before"] == [match.id for match in index.query(data="年假", query_mode=QueryMode.SPARSE)]
            assert "bm25-2" == index.info().sparse_embedding_identity
            assert ["bm25"] == [each.embedding_model for each in [index.info().sparse_index] if each]
        assert [] == caplog.records

    def test_model_that_is_named_later(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """An index without models that is given one later takes the present rule."""
        Index.embedded(tmp_path / "i").close()
        with Index.embedded(tmp_path / "i", sparse_embedding="bm25") as index:
            assert BM25().identity == index.info().sparse_embedding_identity
        assert [] == caplog.records

    def test_index_of_another_version(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A version that this package does not know is refused."""
        with monkeypatch.context() as patched:
            other: Any = BM25("bm25-3")
            patched.setattr(keywords, "sparse_model", lambda _: other)
            Index.embedded(tmp_path / "i", sparse_embedding="bm25").close()
        with pytest.raises(ClientError, match=r"made with the model bm25-3 .* cannot be opened with bm25-2"):
            Index.embedded(tmp_path / "i")
