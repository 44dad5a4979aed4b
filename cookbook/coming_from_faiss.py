"""A FAISS store that you have: a call until there is enough, a filter that few pass, and an agent with more results.

Nothing is copied. The models here are pretenders, so that this runs without an account and without a download; put your
own in their place. Run it with `python cookbook/coming_from_faiss.py`, after
`pip install "nextk[agents]" langchain-community faiss-cpu`.
"""

import re
from collections.abc import Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_community.vectorstores import FAISS
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from nextk.langchain import ResumableRetriever
from nextk.langchain.agents import ResumableSearchMiddleware
from nextk.until import Accepted, DistinctBy

QUESTION = "how busy is the harbour?"
CITIES = ["Rome", "Oslo", "Lima", "Cairo"]


def an_existing_store() -> FAISS:
    """Return what you have already: a store, here of 400 reports. `FAISS.load_local` returns one as well."""
    return FAISS.from_texts(
        [f"Report {number} from {CITIES[number % 4]}: the harbour was busy." for number in range(400)],
        DeterministicFakeEmbedding(size=16),
        [{"city": CITIES[number % 4], "secret": number % 3 == 0, "strike": number % 80 == 0} for number in range(400)],
    )


def permitted(documents: list[Document]) -> list[bool]:
    """Permit what is not secret. A real check would call your permission service once for all documents."""
    return [not document.metadata["secret"] for document in documents]


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
    store = an_existing_store()

    # Two lines: the store as it is, and a call that goes on until ten documents are permitted.
    retriever = ResumableRetriever.from_vectorstore(store, store_id="reports")  # the name for cursors: FAISS has none
    documents = retriever.invoke(QUESTION, until=Accepted(10, permitted))
    assert len(documents) == 10
    assert all(permitted(documents))
    print(len(documents), "permitted documents")

    # A search goes on where the first results end: reports of three cities, then five more of any.
    with retriever.open(QUESTION) as search:
        cities = search.fetch_until(DistinctBy("city", 3))
        more = search.fetch_next(5)
        print(
            ", ".join(document.metadata["city"] for document in cities), "and then", len(more), "more;", search.report
        )

    # FAISS filters only the nearest rows. More of them are filtered until there are enough, so none is missed.
    strikes = {"strike": True}
    print("FAISS alone finds", len(store.similarity_search(QUESTION, 5, filter=strikes)), "of 5 strikes")
    assert len(retriever.invoke(QUESTION, k=5, filter=strikes)) == 5

    # An agent over the same store. It sees what is permitted, page by page, and nothing twice.
    shown = ResumableRetriever.from_vectorstore(store, k=3, until=Accepted(3, permitted), store_id="reports")
    agent = create_agent(Pretender(), middleware=[ResumableSearchMiddleware(shown, description="Search reports.")])
    result = agent.invoke({"messages": [{"role": "user", "content": "How busy was it?"}]})
    pages = [message.artifact["documents"] for message in result["messages"] if isinstance(message, ToolMessage)]
    print("agent:", [[document.page_content for document in page] for page in pages])
    assert [document.id for page in pages for document in page] == [document.id for document in documents[:6]]


if __name__ == "__main__":
    main()
