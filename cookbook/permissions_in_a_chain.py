"""Permissions in a chain: three passages that this user may read, however deep they are, and nothing else to anyone.

A filter on metadata will do where the index knows who may read what. Often only a service does, and only when asked.
So the search goes on until the service has permitted enough, and it fails closed: what was not permitted reaches no
compressor, no trace, no prompt, and if the service is down, nothing does.

The model here only says what it was shown, so that this runs without an account; put any chat model in its place. Run
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
    """The service that knows. In earnest: OpenFGA, SpiceDB, your own; one call for a whole page."""

    down = False

    def check(self, user: str, documents: list[Document]) -> list[bool]:
        """Which of the documents a user may read."""
        if self.down:
            message = "the permission service does not answer"
            raise ConnectionError(message)
        return [document.metadata["memo"] in READERS[user] for document in documents]


class Shorten(BaseDocumentCompressor):
    """Stands for a compressor or a reranker of some other company, which must not see what the user must not."""

    seen: ClassVar[set[int]] = set()

    def compress_documents(
        self,
        documents: Sequence[Document],
        query: str,  # noqa: ARG002
        callbacks: Callbacks = None,  # noqa: ARG002
    ) -> Sequence[Document]:
        """Cut the number of the memo off."""
        self.seen.update(document.metadata["memo"] for document in documents)
        return [Document(document.page_content.partition(": ")[2]) for document in documents]


class Pretender(BaseChatModel):
    """Answers with what it was shown."""

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
    """Asked with `{"user": ..., "question": ...}`."""

    def context(asked: dict[str, str]) -> str:
        def permitted(documents: list[Document]) -> list[bool]:
            return permissions.check(asked["user"], documents)

        documents = retriever.invoke(asked["question"], until=Accepted(3, permitted))
        return "\n".join(document.page_content for document in documents)

    prompt = ChatPromptTemplate.from_template("Answer by these memos alone:\n{context}\nQuestion: {question}")
    found = {"context": RunnableLambda(context), "question": RunnableLambda(lambda asked: asked["question"])}
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
        permissions.down, asked = True, len(model.prompts)
        for each in (chain, through):
            try:
                each.invoke({"user": "mayor", "question": QUESTION})
            except ConnectionError as error:
                print(f"mayor: {error}; the model was asked {len(model.prompts) - asked} times")


if __name__ == "__main__":
    main()
