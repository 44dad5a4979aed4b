"""Text models: the two that come with nextk, and the checks on models of the caller's own."""

import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk import Index
from nextk.engine.text import DenseModel, SparseModel, bm25, dense_model, sparse_model, static
from nextk.engine.values import SparseArrays
from nextk.errors import ClientError, MissingExtraError
from nextk.retrievers.sparse_model import SparseQueryModel
from nextk.types import SparseVector

# Of these, no two share a stem and none is a stop word or an identifier.
WORDS = ["gzip", "file", "line", "tuple", "python", "query", "page", "zebra", "river", "violin", "comet", "harbour"]
SENTENCES = ["Read a gzip file.", "The tuple is immutable", "   ", "", "naïve café 北京 🐍", "a" * 300, "x\ud800y"]


def dense(choice: Any) -> DenseModel:
    """Resolve a choice that must be a dense model."""
    model = dense_model(choice)
    assert model is not None
    return model


def sparse(choice: Any) -> SparseModel:
    """Resolve a choice that must be a sparse model."""
    model = sparse_model(choice)
    assert model is not None
    return model


def entries(vector: SparseArrays) -> dict[int, float]:
    """The entries of a sparse vector whose indices are distinct."""
    assert np.int32 == vector.indices.dtype
    assert np.float32 == vector.values.dtype
    assert vector.indices.shape == vector.values.shape
    pairs = dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True))
    assert len(vector.indices) == len(pairs)
    return pairs


def dimension_of(stem: str) -> int:
    """The dimension of a stem, by the documented hash."""
    return crc32(stem.encode()) & 0x7FFFFFFF


def product(query: SparseArrays, document: SparseArrays) -> float:
    """The score of a document: the inner product, by the definition."""
    weights = entries(document)
    return sum(weight * weights.get(index, 0.0) for index, weight in entries(query).items())


def run_python(code: str, seed: str = "0") -> subprocess.CompletedProcess[str]:
    """Run a piece of code in a fresh interpreter that can import nextk."""
    path = str(Path(bm25.__file__).parents[3])
    return subprocess.run(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {path!r})\n{code}"],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.fixture
def no_known_words() -> Iterator[None]:
    """Forget every word's dimensions, before the test and after it."""
    bm25._dimensions.cache_clear()
    yield
    bm25._dimensions.cache_clear()


class TestChoice:
    """The values that `embedding` and `sparse_embedding` accept."""

    def test_none_is_no_model(self) -> None:
        """If no model is chosen there is no model: there is no default."""
        assert (dense_model(None), sparse_model(None)) == (None, None)

    def test_names(self) -> None:
        """The two names give the two models that come with nextk."""
        assert (dense("static").name, dense("static").dimension) == ("static", 256)
        assert sparse("bm25").name == "bm25"

    @pytest.mark.parametrize(
        "choice", ["bm25", "STATIC", "", "openai", True, 3, [], object()], ids=lambda one: str(one)[:14]
    )
    def test_unknown_dense(self, choice: object) -> None:
        """Anything else is refused by its keyword, with all that is accepted."""
        with pytest.raises(ClientError, match=r'embedding cannot be .* Give "static", a function .* or an object'):
            dense_model(choice)

    def test_unknown_sparse(self) -> None:
        """The sparse refusal names the sparse keyword and model."""
        with pytest.raises(ClientError, match=r'sparse_embedding cannot be \'static\'. Give "bm25", a function'):
            sparse_model("static")

    @pytest.mark.parametrize("make", [dense_model, sparse_model, SparseQueryModel, Index.embedded])
    def test_no_secrets(self, make: Callable[[Any], Any]) -> None:
        """An object that is no model is called by its type, because its own text may hold secrets."""
        with pytest.raises(ClientError, match="an object of the type SimpleNamespace") as caught:
            make(SimpleNamespace(api_key="sk-hidden"))
        assert "hidden" not in str(caught.value)

    def test_class_instead_of_object(self) -> None:
        """A class is refused, although it has the methods of its objects and can be called."""
        with pytest.raises(ClientError, match="the class Uninstantiated"):
            dense_model(type("Uninstantiated", (), {"embed_documents": len, "embed_query": len}))


class TestStatic:
    """The static dense model."""

    def test_shape_and_length(self) -> None:
        """Rows are float32, 256 wide and of length 1; a text without tokens is a row of zeros."""
        vectors = dense("static").embed_documents(SENTENCES)
        assert (np.dtype(np.float32), (len(SENTENCES), 256)) == (vectors.dtype, vectors.shape)
        expected = [1.0 if text.strip() else 0.0 for text in SENTENCES]
        assert np.allclose(expected, np.linalg.norm(vectors, axis=1), atol=1e-6)
        assert dense("static").embed_documents([]).shape == (0, 256)

    @given(st.lists(st.text(max_size=30) | st.sampled_from(SENTENCES), max_size=5))
    def test_company_does_not_matter(self, texts: list[str]) -> None:
        """A text has the same vector to the last bit alone, in any batch and as a query."""
        model = dense("static")
        together = model.embed_documents(texts)
        for row, text in zip(together, texts, strict=True):
            assert row.tobytes() == model.embed_query(text).tobytes()

    def test_nearer_in_meaning(self) -> None:
        """The vectors mean something: a paraphrase is nearer than another subject."""
        model = dense("static")
        question = model.embed_query("How do I compress a file?")
        near, far = model.embed_documents(["gzip makes archives smaller", "the violin concerto in D major"])
        assert question @ near > question @ far + 0.1

    def test_blanks_do_not_count(self) -> None:
        """Indentation and line breaks leave the vector as it is."""
        model = dense("static")
        expected = model.embed_query("Wrap a single paragraph of text")
        assert expected.tobytes() == model.embed_query("  Wrap a single\n    paragraph\tof  text\n").tobytes()

    def test_long_text_is_cut_off(self) -> None:
        """A text beyond the limit is embedded by its beginning and is no error."""
        model = dense("static")
        beginning = "word " * static.MAX_TOKENS
        expected = model.embed_query(beginning)
        assert expected.tobytes() == model.embed_query(beginning + "violin " * 100_000).tobytes()

    def test_same_vectors_as_wordllama(self) -> None:
        """Files and pooling agree with wordllama's own loader and `embed`."""
        texts = ["Read a gzip file.", "The tuple is immutable", "naïve café 北京 🐍"]
        code = (
            "import pathlib, wordllama\n"
            "folder = pathlib.Path(wordllama.__file__).parent\n"
            "model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)\n"
            f"print(model.embed({texts!r}, norm=True).tolist())"
        )
        expected = np.array(json.loads(run_python(code).stdout))
        assert np.allclose(expected, dense("static").embed_documents(texts), atol=1e-5)

    def test_silent(self) -> None:
        """Nothing is printed, no logging is configured, and no HTTP client is imported."""
        code = (
            "import logging\n"
            "from nextk.engine.text import dense_model\n"
            "dense_model('static').embed_documents(['some text'] * 100)\n"
            "assert not logging.getLogger().handlers\n"
            "assert {'requests', 'wordllama'}.isdisjoint(sys.modules)\n"
        )
        result = run_python(code)
        assert (result.stdout, result.stderr) == ("", "")

    def test_loads_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Threads that come at once share one load."""
        found: list[str] = []

        def find(name: str) -> ModuleSpec | None:
            found.append(name)
            return find_spec(name)

        monkeypatch.setattr(static, "find_spec", find)
        static._read_table.cache_clear()
        with ThreadPoolExecutor(8) as pool:
            vectors = list(pool.map(dense("static").embed_query, ["the same text"] * 32))
        assert found == ["wordllama"]
        assert len({vector.tobytes() for vector in vectors}) == 1

    def test_without_wordllama(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Without the package, or without its files, the error is the command that helps."""
        monkeypatch.setattr(static, "find_spec", lambda _name: None)
        static._read_table.cache_clear()
        with pytest.raises(MissingExtraError, match=r"pip install 'nextk\[local\]'"):
            dense("static").embed_query("text")
        hollow = ModuleSpec("wordllama", None, origin=str(tmp_path / "__init__.py"))
        monkeypatch.setattr(static, "find_spec", lambda _name: hollow)
        with pytest.raises(MissingExtraError, match=r"without l2_supercat_tokenizer_config\.json"):
            dense("static").embed_query("text")


class TestBM25:
    """The sparse model."""

    @given(st.lists(st.sampled_from(WORDS), max_size=80))
    def test_document_weights(self, words: list[str]) -> None:
        """A document's weights are the formula of the protocol, term by term."""
        text = " ".join(words)
        expected = {
            index: f * 2.2 / (f + 1.2 * (0.25 + 0.75 * len(words) / 32))
            for word, f in Counter(words).items()
            for index in entries(sparse("bm25").embed_query(word))
        }
        actual = entries(sparse("bm25").embed_documents([text])[0])
        assert expected.keys() == actual.keys()
        assert all(actual[index] == pytest.approx(weight, rel=1e-6) for index, weight in expected.items())

    @given(st.lists(st.sampled_from(WORDS), max_size=30))
    def test_query_weights(self, words: list[str]) -> None:
        """A query's weight is 1 for each distinct term, however often it occurs."""
        actual = entries(sparse("bm25").embed_query(" ".join(words)))
        assert ([1.0] * len(set(words))) == list(actual.values())

    @given(st.permutations(WORDS), st.integers(1, len(WORDS) - 2))
    def test_longer_match_first(self, words: list[str], size: int) -> None:
        """Of texts that each extend the one before by a word, the longest as a query ranks longest to shortest."""
        texts = [" ".join(words[: size + more]) for more in range(3)]
        model = sparse("bm25")
        documents = model.embed_documents(texts)
        scores = [product(model.embed_query(texts[-1]), document) for document in documents]
        assert sorted(scores) == scores
        assert len(set(scores)) == 3
        only_last = [product(model.embed_query(words[size + 1]), document) > 0 for document in documents]
        assert only_last == [False, False, True]

    def test_dimension_is_a_hash_of_the_stem(self) -> None:
        """The dimensions are fixed for good: stored indexes depend on them."""
        assert {dimension_of("walk"): 1.0} == entries(sparse("bm25").embed_query("Walking walks WALKED"))
        assert sparse("bm25").embed_query("gzip").indices.tolist() == [988372210]

    def test_same_in_every_process(self) -> None:
        """Neither the hash seed nor the process changes a vector."""
        code = (
            "from nextk.engine.text import sparse_model\n"
            "vector = sparse_model('bm25').embed_documents(['Reading files with get_line'])[0]\n"
            "print([part.tolist() for part in vector])"
        )
        outputs = {run_python(code, seed=seed).stdout for seed in ("1", "2")}
        vector = sparse("bm25").embed_documents(["Reading files with get_line"])[0]
        assert {f"{[part.tolist() for part in vector]}\n"} == outputs

    @pytest.mark.parametrize(
        ("text", "stems"),
        [
            ("get_close_matches", {"get", "close", "match", "get_close_match"}),
            ("os.path.join", {"os", "path", "join"}),
            ("TextWrapper", {"text", "wrapper", "textwrapp"}),
            ("HTTPServer", {"http", "server", "httpserver"}),
            ("__init__ _private", {"init", "privat"}),
            ("is_file", {"file", "is_fil"}),
            ("sha256 utf8", {"sha256", "utf8"}),
            ("Café ﬁle FILE", {"café", "file"}),
            ("cafe\u0301", {"café"}),
            ("don't it's", {"don"}),
        ],
    )
    def test_words(self, text: str, stems: set[str]) -> None:
        """Words are lower-cased, normalised and stemmed; an identifier counts as a whole and by its parts."""
        assert {dimension_of(stem) for stem in stems} == set(entries(sparse("bm25").embed_query(text)))

    @pytest.mark.parametrize("text", ["", "  \n", "The, and... WHAT is it?", "!?", "\ud800"])
    def test_no_terms(self, text: str) -> None:
        """A text without terms has an empty vector, as a document and as a query."""
        document, query = sparse("bm25").embed_documents([text])[0], sparse("bm25").embed_query(text)
        assert (entries(document), entries(query)) == ({}, {})

    def test_at_most_a_thousand_entries(self) -> None:
        """The heaviest terms are kept, and the earlier of two equally heavy ones."""
        words = [f"w{number}" for number in range(1_500)]
        text = " ".join([*words, *words[-10:]])
        kept = {dimension_of(word) for word in [*words[:990], *words[-10:]]}
        assert kept == set(entries(sparse("bm25").embed_documents([text])[0]))
        assert {dimension_of(word) for word in words[:1_000]} == set(entries(sparse("bm25").embed_query(text)))

    def test_giant_word(self) -> None:
        """A megabyte without a blank is embedded like any text, and found again."""
        giant = "ab" * 500_000
        model = sparse("bm25")
        assert product(model.embed_query(giant), model.embed_documents([giant])[0]) > 0

    @pytest.mark.usefixtures("no_known_words")
    def test_collision_is_one_term(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stems that share a dimension count together, in documents and in queries."""
        monkeypatch.setattr(bm25, "crc32", lambda _stem: 7)
        model = sparse("bm25")
        expected = 2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 2 / 32))
        assert {7: pytest.approx(expected)} == entries(model.embed_documents(["river comet"])[0])
        assert entries(model.embed_query("river comet")) == {7: 1.0}

    @pytest.mark.usefixtures("no_known_words")
    def test_threads_stem_alike(self) -> None:
        """Threads that meet new words together agree with one that meets them alone."""
        texts = [f"{stem}{number}ing" for number in range(50) for stem in ("walk", "read", "writ")]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(sparse("bm25").embed_query, texts))
        bm25._dimensions.cache_clear()
        assert [entries(sparse("bm25").embed_query(text)) for text in texts] == [entries(vector) for vector in together]


class Both:
    """A model of the caller's with both methods, as LangChain has them."""

    def __init__(self, documents: Any, query: Any = None) -> None:
        self.documents, self.query = documents, query

    def embed_documents(self, texts: list[str]) -> Any:
        """Return the result that the test has set, whatever the texts are."""
        return self.documents

    def embed_query(self, text: str) -> Any:
        """Return the result that the test has set, whatever the text is."""
        return self.query


class QuestionsOnly:
    """A model that embeds nothing but questions."""

    def embed_query(self, text: str) -> Any:
        """A dense vector, or a sparse one."""
        return {3: 0.5} if text == "sparse" else [1, 2]


def lengths(texts: list[str]) -> list[list[int]]:
    """A minimal dense model."""
    return [[len(text), 1] for text in texts]


class TestCustomDense:
    """The caller's dense model."""

    @pytest.mark.parametrize(
        "model",
        [
            lengths,
            lambda texts: np.array(lengths(texts), dtype=np.float64),
            lambda texts: iter(np.array(row) for row in lengths(texts)),
            Both([[1, 1], [2, 1]], [2, 1]),
        ],
        ids=["function", "array", "generator", "object"],
    )
    def test_shapes_accepted(self, model: Any) -> None:
        """Lists, arrays and generators of rows become float32 arrays; a function embeds questions as documents."""
        wrapped = dense(model)
        documents, query = wrapped.embed_documents(["a", "bb"]), wrapped.embed_query("cc")
        assert (wrapped.name, wrapped.dimension) == ("custom", None)
        assert (documents.tolist(), query.tolist()) == ([[1, 1], [2, 1]], [2, 1])
        assert {np.dtype(np.float32)} == {documents.dtype, query.dtype}

    def test_the_callers_array_is_copied(self) -> None:
        """Later changes by the caller to its own array do not change the vectors."""
        array = np.ones((1, 2), dtype=np.float32)
        vectors = dense(lambda _texts: array).embed_documents(["a"])
        array[:] = 9
        assert vectors.tolist() == [[1, 1]]

    def test_no_texts_no_call(self) -> None:
        """No texts are embedded without asking the model."""
        assert len(dense(Both(documents="never looked at")).embed_documents([])) == 0

    @pytest.mark.parametrize(
        ("result", "complaint"),
        [
            ([[1.0, 2.0]], "returned 1 vectors for 2 texts"),
            ([1.0, 2.0], r"must form an array of 2 axes; its shape is \(2,\)"),
            ([[[1.0]], [[2.0]]], "must form an array of 2 axes"),
            (None, "must form an array of 2 axes"),
            ([[1.0], [1.0, 2.0]], "cannot be read as an array"),
            ([[1.0, float("nan")], [1.0, 2.0]], "must be finite in float32"),
            ([[1.0, float("inf")], [1.0, 2.0]], "must be finite in float32"),
            ([[1.0, 1e39], [1.0, 2.0]], "must be finite in float32"),
            ([["1", "2"], ["3", "4"]], "must be numbers, not <U1"),
            ([[1.0, None], [1.0, 2.0]], "must be numbers, not object"),
            ([[1j], [2j]], "must be numbers, not complex"),
            ([[], []], "must have at least one dimension"),
        ],
    )
    def test_bad_documents(self, result: Any, complaint: str) -> None:
        """A vector that cannot be stored is refused, and the message names the model and the reason."""
        with pytest.raises(ClientError, match=complaint) as refusal:
            dense(Both(result)).embed_documents(["a", "b"])
        assert "the model Both" in str(refusal.value)

    @pytest.mark.parametrize("result", [[[1.0, 2.0]], [], 1.0, [float("nan")], "text", None], ids=repr)
    def test_bad_query(self, result: Any) -> None:
        """A question's vector is held to one axis of finite numbers."""
        with pytest.raises(ClientError, match="the query vector of the model Both"):
            dense(Both([], result)).embed_query("a")

    def test_questions_only(self) -> None:
        """A model without `embed_documents` answers questions and refuses documents."""
        model = dense(QuestionsOnly())
        assert model.embed_query("a").tolist() == [1, 2]
        with pytest.raises(ClientError, match="the model QuestionsOnly embeds questions only"):
            model.embed_documents(["a"])

    def test_errors_of_the_model_pass(self) -> None:
        """An exception of the model itself is not wrapped."""

        def broken(_texts: list[str]) -> Iterator[list[float]]:
            yield [1.0]
            message = "quota"
            raise TypeError(message)

        for model in (dense(broken), sparse(broken)):
            with pytest.raises(TypeError, match="quota"):
                model.embed_documents(["a", "b"])

    def test_langchain_embeddings(self) -> None:
        """A LangChain `Embeddings` is a model as it is."""
        from langchain_core.embeddings import DeterministicFakeEmbedding

        theirs = DeterministicFakeEmbedding(size=4)
        expected = np.array(theirs.embed_documents(["a", "b"]), dtype=np.float32)
        assert expected.tolist() == dense(theirs).embed_documents(["a", "b"]).tolist()
        assert expected[1].tolist() == dense(theirs).embed_query("b").tolist()

    def test_llama_index_embedding(self) -> None:
        """A LlamaIndex `BaseEmbedding` is a model as it is, though it can also be called (on nodes)."""
        from llama_index.core.embeddings import MockEmbedding

        model = dense(MockEmbedding(embed_dim=3))
        assert model.embed_documents(["a", "b"]).tolist() == [[0.5] * 3] * 2
        assert model.embed_query("b").tolist() == [0.5] * 3


PAIR = ([5, -2, 5], [0.5, 1.0, 0.25])


class TestCustomSparse:
    """The caller's sparse model."""

    @pytest.mark.parametrize(
        "vector",
        [
            SparseVector(*PAIR),
            SparseArrays(np.array(PAIR[0], dtype=np.int32), np.array(PAIR[1], dtype=np.float32)),
            PAIR,
            (np.array(PAIR[0]), np.array(PAIR[1])),
        ],
        ids=["object", "named tuple", "tuple of lists", "tuple of arrays"],
    )
    def test_shapes_accepted(self, vector: Any) -> None:
        """Objects and tuples are read in the order given, repeated indices included."""
        choices: list[Callable[[list[str]], Any] | Both] = [lambda _texts: [vector], Both([vector], vector)]
        for choice in choices:
            model = sparse(choice)
            assert model.name == "custom"
            for actual in (model.embed_query("a"), *model.embed_documents(["a"])):
                assert (actual.indices.tolist(), actual.values.tolist()) == PAIR
                assert (np.dtype(np.int32), np.dtype(np.float32)) == (actual.indices.dtype, actual.values.dtype)

    def test_dict_and_empty(self) -> None:
        """Dicts are read as sparse vectors, and a vector may be empty."""
        vectors = sparse(lambda _texts: iter([{7: 2, -1: 0.5}, {}, ([], [])])).embed_documents(["a", "b", "c"])
        assert [entries(vector) for vector in vectors] == [{7: 2.0, -1: 0.5}, {}, {}]

    @pytest.mark.parametrize(
        ("vector", "complaint"),
        [
            (([1, 2], [0.5]), "2 indices but 1 values"),
            (([1.5], [0.5]), "the sparse indices of .* must be integers, not float64"),
            (([True], [0.5]), "must be integers, not bool"),
            (([2**31], [0.5]), "must lie within a signed int32"),
            (([2**70], [0.5]), "must be integers, not object"),
            (([[1]], [0.5]), "the sparse indices of .* must form an array of 1 axes"),
            (([1], [float("nan")]), "the sparse values of .* must be finite"),
            (([1], ["x"]), "must be numbers"),
            (([1], 0.5), "the sparse values of .* must form an array of 1 axes"),
            (dict.fromkeys(range(1_001), 1.0), "1001 entries; at most 1000"),
            ([0.1, 0.2], "returned list where a sparse vector was expected"),
            (None, "returned NoneType where a sparse vector was expected"),
        ],
    )
    def test_bad_vectors(self, vector: Any, complaint: str) -> None:
        """A vector that cannot be stored is refused for documents and queries, and the message names the model."""
        model = sparse(Both([vector], vector))
        for embed in (lambda: model.embed_documents(["a"]), lambda: model.embed_query("a")):
            with pytest.raises(ClientError, match=complaint) as refusal:
                embed()
            assert "the model Both" in str(refusal.value)

    def test_bad_lists(self) -> None:
        """There must be a list, of one vector for each text."""
        with pytest.raises(ClientError, match="the model Both returned 1 vectors for 2 texts"):
            sparse(Both([{1: 1.0}])).embed_documents(["a", "b"])
        with pytest.raises(ClientError, match="the model Both returned int where a list of sparse vectors"):
            sparse(Both(3)).embed_documents(["a", "b"])

    def test_questions_only(self) -> None:
        """A model without `embed_documents` answers questions and refuses documents, but not the lack of any."""
        model = sparse(QuestionsOnly())
        assert entries(model.embed_query("sparse")) == {3: 0.5}
        assert model.embed_documents([]) == []
        with pytest.raises(ClientError, match="the model QuestionsOnly embeds questions only"):
            model.embed_documents(["a"])

    def test_llama_index_sparse_embedding(self) -> None:
        """A LlamaIndex `BaseSparseEmbedding` is a model as it is."""
        from llama_index.core.sparse_embeddings.mock_sparse_embedding import MockSparseEmbedding

        theirs = MockSparseEmbedding(text_to_embedding={"a": {1: 0.5}, "b": {2: 0.25}})
        model = sparse(theirs)
        vectors = itertools.chain(model.embed_documents(["a", "b"]), [model.embed_query("b")])
        assert [entries(vector) for vector in vectors] == [{1: 0.5}, {2: 0.25}, {2: 0.25}]
