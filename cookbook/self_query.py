"""Questions with conditions in them: a model writes the filter, and the store searches with it.

The model here is a pretender, so that this runs without an account; put your own in its place. Run it with
`python cookbook/self_query.py`, after `pip install "nextk[local,langchain]" langchain-classic lark`.
"""

from typing import Any

from langchain_classic.chains.query_constructor.schema import AttributeInfo
from langchain_classic.retrievers import SelfQueryRetriever
from langchain_core.language_models import SimpleChatModel
from langchain_core.messages import BaseMessage

from nextk.langchain import ResumableVectorStore, StructuredQueryTranslator

FILMS: dict[str, dict[str, Any]] = {
    "Scientists bring back dinosaurs, and the dinosaurs break loose.": {"year": 1993, "genres": ["adventure"]},
    "Toys come alive when nobody looks.": {"year": 1995, "genres": ["animation", "comedy"]},
    "A family of dinosaurs looks for a green valley.": {"year": 1988, "genres": ["animation"]},
    "A thief steals secrets out of dreams.": {"year": 2010, "genres": ["adventure"]},
    "A rat wants to be a cook in Paris.": {"year": 2007, "genres": ["animation", "comedy"]},
}
ANSWERS = {
    "dinosaur films of the 1990s": r'{"query": "dinosaurs", "filter": "and(gte(\"year\", 1990), lt(\"year\", 2000))"}',
    "comedies, but not of 1995": r'{"query": "", "filter": "and(contain(\"genres\", \"comedy\"), ne(\"year\", 1995))"}',
}


class Pretender(SimpleChatModel):
    """Answers as a model does that has read LangChain's prompt, which ends with the question."""

    @property
    def _llm_type(self) -> str:
        return "pretender"

    def _call(self, messages: list[BaseMessage], *arguments: Any, **options: Any) -> str:  # noqa: ARG002
        return next(answer for question, answer in ANSWERS.items() if question in messages[-1].text)


def main() -> None:
    fields = [
        AttributeInfo(name="year", description="The year in which the film came out", type="integer"),
        AttributeInfo(name="genres", description="The genres of the film", type="list[string]"),
    ]
    translator = StructuredQueryTranslator()
    with ResumableVectorStore.from_texts(FILMS, metadatas=FILMS.values()) as store:
        retriever = SelfQueryRetriever.from_llm(
            Pretender(), store, "Plots of films", fields, structured_query_translator=translator
        )
        for question in ANSWERS:
            text, arguments = translator.visit_structured_query(retriever.query_constructor.invoke({"query": question}))
            print(f"{question}\n  searches for {text!r} with {arguments['filter']}")
            for document in retriever.invoke(question):
                print("  -", document.page_content, document.metadata)


if __name__ == "__main__":
    main()
