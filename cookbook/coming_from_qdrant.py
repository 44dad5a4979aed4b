"""A Qdrant collection that you have: a call until there is enough, and an agent that asks for more results.

Nothing is copied, and Qdrant is written to as before. The models here are pretenders, so that this runs without an
account and without a download; put your own in their place. Run it with `python cookbook/coming_from_qdrant.py`, after
`pip install "nextk[agents]" langchain-qdrant`.
"""

import re
from collections.abc import Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_qdrant import QdrantVectorStore
from qdrant_client import models

from nextk.langchain import ResumableRetriever
from nextk.langchain.agents import ResumableSearchMiddleware
from nextk.until import Accepted

QUESTION = "how busy is the harbour?"


def an_existing_collection() -> QdrantVectorStore:
    """Return what you have already: a collection, here of 200 reports, a fourth of which everybody may read."""
    return QdrantVectorStore.from_texts(
        [f"Report {number}: {number} ships in the harbour." for number in range(200)],
        DeterministicFakeEmbedding(size=16),
        [{"year": 1990 + number % 30, "public": number % 4 == 0} for number in range(200)],
        ids=list(range(200)),
        location=":memory:",
        collection_name="reports",
    )


def permitted(documents: list[Document]) -> list[bool]:
    """Permit what is public. A real check would call your permission service once for all documents."""
    return [document.metadata["public"] for document in documents]


class Pretender(BaseChatModel):
    """Does what a model would do here: it searches, asks for more results once, and answers."""

    @property
    def _llm_type(self) -> str:
        return "pretender"

    def bind_tools(self, tools: Sequence[Any], **options: Any) -> Any:  # noqa: ARG002
        """Return the model itself: it knows the tools already."""
        return self

    def _generate(self, messages: list[BaseMessage], *arguments: Any, **options: Any) -> ChatResult:  # noqa: ARG002
        results = [message.text for message in messages if isinstance(message, ToolMessage)]
        if not results:
            message = call("search", query=QUESTION)
        elif len(results) == 1 and (found := re.search(r"search id: (\w+)", results[0])):
            message = call("more_results", search_id=found.group(1))
        else:
            message = AIMessage(f"I have read {len(results)} pages.")
        return ChatResult(generations=[ChatGeneration(message=message)])


def call(tool: str, **arguments: str) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": tool, "args": arguments, "id": f"{tool}-call", "type": "tool_call"}])


def main() -> None:
    store = an_existing_collection()

    # Two lines: the collection as it is, and a call that goes on until ten documents are permitted.
    retriever = ResumableRetriever.from_vectorstore(store)
    documents = retriever.invoke(QUESTION, until=Accepted(10, permitted))
    assert len(documents) == 10
    assert all(permitted(documents))
    print(
        len(documents),
        "permitted documents; the first 10 of the store hold",
        sum(permitted(store.similarity_search(QUESTION, 10))),
    )

    # A search goes on without the points that have come, so that none is moved twice.
    with retriever.open(QUESTION) as search:
        for _ in range(15):
            search.fetch_next(10)
    assert (search.report.continuation, search.report.pulled, search.report.refetched) == ("exclusion", 150, 0)

    # Filters are Qdrant's own, for one call or for the retriever.
    since = models.FieldCondition(key="metadata.year", range=models.Range(gte=2015))
    recent = retriever.invoke(QUESTION, k=20, filter=models.Filter(must=[since]))
    assert all(document.metadata["year"] >= 2015 for document in recent)

    # An agent over the same collection. It sees what is permitted, page by page, and nothing twice.
    shown = ResumableRetriever.from_vectorstore(store, k=3, until=Accepted(3, permitted))
    agent = create_agent(Pretender(), middleware=[ResumableSearchMiddleware(shown, description="Search reports.")])
    result = agent.invoke({"messages": [{"role": "user", "content": "How busy was it?"}]})
    pages = [message.artifact["documents"] for message in result["messages"] if isinstance(message, ToolMessage)]
    print("agent:", [[document.page_content for document in page] for page in pages])
    assert [document.metadata["_id"] for page in pages for document in page] == [
        document.metadata["_id"] for document in documents[:6]
    ]
    store.client.close()


if __name__ == "__main__":
    main()
