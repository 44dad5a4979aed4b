"""Searching by words in languages of many scripts, with the model `"bm25"`."""

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.documents import Document
from llama_index.core.schema import TextNode

from nextk import Index, langchain, llama_index
from nextk.types import Data, WeightingStrategy
from tests.support.languages import LANGUAGES, Topic
from tests.support.transports import Opener

TEXTS = ["报销流程需要发票和审批单", "员工每年享有十五天带薪年假"]


def by_texts(texts: list[str]) -> Any:
    """Make a LangChain retriever that searches texts by their words."""
    return langchain.ResumableRetriever.from_texts(texts, retrieval_mode="sparse")


def by_documents(texts: list[str]) -> Any:
    """Make a LangChain retriever that searches documents by their words."""
    documents = [Document(page_content=text) for text in texts]
    return langchain.ResumableRetriever.from_documents(documents, retrieval_mode="sparse")


def by_nodes(texts: list[str]) -> Any:
    """Make a LlamaIndex retriever that searches nodes by their words."""
    return llama_index.ResumableRetriever.from_nodes([TextNode(text=text) for text in texts], retrieval_mode="sparse")


def texts_of(found: list[Any]) -> list[str]:
    """Return the texts of documents or nodes, in order."""
    return [str(each.page_content if isinstance(each, Document) else each.text) for each in found]


def recall(topics: list[Topic], k: int) -> float:
    """Return the share of questions whose sentence is among the `k` best matches."""
    with Index.embedded(sparse_embedding="bm25", weighting="idf") as index:
        index.upsert([Data(topic.question, topic.sentence) for topic in topics])
        found = [
            {match.id for match in index.query(data=topic.question, top_k=k, weighting_strategy=WeightingStrategy.IDF)}
            for topic in topics
        ]
    return sum(topic.question in ids for topic, ids in zip(topics, found, strict=True)) / len(topics)


class TestRecall:
    """Questions find the sentences that answer them."""

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_recall(self, language: str) -> None:
        """Of twelve sentences of a language, the right one is among the first three, and nearly always the first.

        Measured: recall@3 is 1.0 in every language; recall@1 is 0.92 in Russian and Greek and 1.0 in the others. By the
        rule of version 1, recall@3 was 0.0 in Chinese and Japanese, 0.08 in Korean, and 1.0 in the others.
        """
        assert recall(LANGUAGES[language], 3) == 1
        assert recall(LANGUAGES[language], 1) >= 11 / 12

    def test_all_languages_in_one_index(self) -> None:
        """Texts of all languages may share an index: recall@3 is 1.0 there, too."""
        assert recall([topic for topics in LANGUAGES.values() for topic in topics], 3) == 1


class TestRetrievers:
    """Both frameworks find words of scripts without blanks."""

    @pytest.mark.parametrize("make", [by_texts, by_documents, by_nodes])
    @pytest.mark.parametrize("question", ["年假", "带薪年假有几天", "员工", "五"])
    async def test_chinese(self, make: Callable[[list[str]], Any], question: str) -> None:
        """A word or a character of a Chinese sentence finds it, and no other, in both colours."""
        with make(TEXTS) as retriever:
            blocking = retriever.invoke if hasattr(retriever, "invoke") else retriever.retrieve
            asynchronous = retriever.ainvoke if hasattr(retriever, "ainvoke") else retriever.aretrieve
            assert TEXTS[1:] == texts_of(blocking(question)) == texts_of(await asynchronous(question))

    async def test_index(self, open_index: Opener) -> None:
        """An index finds them over every transport."""
        index = open_index("sparse", sparse_embedding="bm25")
        await index.upsert([Data(text, text) for text in TEXTS])
        for word in ("年假", "享有", "薪"):
            assert TEXTS[1:] == [match.id for match in await index.query(data=word)]
