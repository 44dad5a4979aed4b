"""Permissions in a chain: three passages that this user may read, however deep they are, and nothing else to anyone.

A filter on metadata suffices if the index knows who may read what. Often only a service knows, and has to be called.
So the search goes on until the service has permitted enough. It fails closed: a passage that was not permitted reaches
no compressor, no trace and no prompt; and if the service is down, no passage does.

The model here only repeats what it was shown, so that this runs without an account; use any chat model instead. Run
it with `python cookbook/permissions_in_a_chain.py`, after `pip install "nextk[local,langchain]"`.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda

from nextk.langchain import ResumableCompressionRetriever, ResumableRetriever
from nextk.until import Accepted

SUBJECTS = ["the new harbour", "the old harbour", "ferries", "tolls", "the lighthouse"]
TEXTS = [f"Memo {number}: the budget of {SUBJECTS[number % 5]} is {number + 1} million." for number in range(60)]
METADATAS = [{"memo": number} for number in range(60)]
QUESTION = "what is the budget of the harbour?"
READERS = {"mayor": set(range(60)), "clerk": {7, 26, 33, 51}, "visitor": set()}  # memos by user


class Permissions:
    """A permission service. In production: OpenFGA, SpiceDB or your own, with one call for a whole page."""

    down = False

    def check(self, user: str, documents: list[Document]) -> list[bool]:
        """Return which of the documents a user may read."""
        if self.down:
            message = "the permission service does not answer"
            raise ConnectionError(message)
        return [document.metadata["memo"] in READERS[user] for document in documents]


class Shorten(BaseDocumentCompressor):
    """A stand-in for another company's compressor or reranker, which must not see what the user must not see."""

    seen: ClassVar[set[int]] = set()

    def compress_documents(
        self,
        documents: Sequence[Document],
        query: str,  # noqa: ARG002
        callbacks: Callbacks = None,  # noqa: ARG002
    ) -> Sequence[Document]:
        """Cut off the number of each memo."""
        self.seen.update(document.metadata["memo"] for document in documents)
        return [Document(document.page_content.partition(": ")[2]) for document in documents]


class Pretender(BaseChatModel):
    """A stand-in for a chat model, which answers with the lines about millions that it was shown."""

    prompts: ClassVar[list[str]] = []

    @property
    def _llm_type(self) -> str:
        return "pretender"

    def _generate(self, messages: list[BaseMessage], *arguments: Any, **options: Any) -> ChatResult:  # noqa: ARG002
        self.prompts.append(messages[-1].text)
        shown = [line for line in messages[-1].text.splitlines() if "million" in line]
        return ChatResult(
            generations=[ChatGeneration(message=AIMessage(f"I was shown {len(shown)}: {' '.join(shown)}"))]
        )


def chain_of(
    retriever: Runnable[str, list[Document]], permissions: Permissions, model: BaseChatModel
) -> Runnable[Any, str]:
    """Make a chain that is called with `{"user": ..., "question": ...}`."""

    def context(request: dict[str, str]) -> str:
        def permitted(documents: list[Document]) -> list[bool]:
            return permissions.check(request["user"], documents)

        documents = retriever.invoke(request["question"], until=Accepted(3, permitted))
        return "\n".join(document.page_content for document in documents)

    prompt = ChatPromptTemplate.from_template("Answer by these memos alone:\n{context}\nQuestion: {question}")
    found = {"context": RunnableLambda(context), "question": RunnableLambda(lambda request: request["question"])}
    return found | prompt | model | StrOutputParser()


def main() -> None:
    permissions, model, shorten = Permissions(), Pretender(), Shorten()
    with ResumableRetriever.from_texts(TEXTS, metadatas=METADATAS) as retriever:
        chain = chain_of(retriever, permissions, model)
        for user in READERS:
            print(f"{user}:", chain.invoke({"user": user, "question": QUESTION}))

        # The same through a compressor. It is shown only what is permitted, page by page, until three have survived.
        compressing = ResumableCompressionRetriever(base_compressor=shorten, base_retriever=retriever, min_documents=3)
        through = chain_of(compressing, permissions, model)
        print("clerk, shortened:", through.invoke({"user": "clerk", "question": QUESTION}))
        print("the compressor has seen memos of the clerk's alone:", shorten.seen <= READERS["clerk"])

        # The service is down: no answer is better than one that leaks.
        permissions.down, calls_before = True, len(model.prompts)
        for each in (chain, through):
            try:
                each.invoke({"user": "mayor", "question": QUESTION})
            except ConnectionError as error:
                print(f"mayor: {error}; the model was asked {len(model.prompts) - calls_before} times")


if __name__ == "__main__":
    main()
