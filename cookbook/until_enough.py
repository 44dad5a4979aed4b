"""Search until there is enough, by a token budget, distinct sources, permissions or your own policy; go on later.

Run it with `python cookbook/until_enough.py`, after `pip install "nextk[local,langchain]"`.
"""

import json
from typing import Any

from langchain_core.documents import Document

from nextk.langchain import ResumableRetriever
from nextk.until import Accepted, Candidate, DistinctBy, MaxResults, Policy, PolicyState, TokenBudget

CITIES = ["Rome", "Oslo", "Lima", "Cairo"]
TEXTS = [
    f"Report {number} from {CITIES[number % 4]}: the harbour was busy." + " Ships." * number for number in range(40)
]
METADATAS = [{"city": CITIES[number % 4], "year": 1990 + number, "secret": number % 3 == 0} for number in range(40)]
QUESTION = "how busy is the harbour?"


def permitted(documents: list[Document]) -> list[bool]:
    """Permit what is not secret. A real check would call your permission service once for all documents."""
    return [not document.metadata["secret"] for document in documents]


class Fresh(Policy):
    """A policy of your own: keeps the reports of at least `year`, and stops when there are `n` of them."""

    def __init__(self, n: int, year: int) -> None:
        self.n, self.year = n, year

    def new_state(self, memory: dict[str, Any]) -> PolicyState:  # noqa: ARG002
        """Make the state of one call."""
        return FreshState(self)


class FreshState(PolicyState):
    """Counts the reports of one call; the search raises `kept`."""

    def keeps(self, candidate: Candidate) -> bool:
        """Return whether a report is recent enough."""
        return bool(candidate.metadata["year"] >= self.policy.year)

    def enough(self) -> bool:
        """Return whether there are `n` reports."""
        return bool(self.kept == self.policy.n)


def main() -> None:
    with ResumableRetriever.from_texts(TEXTS, metadatas=METADATAS, until=Accepted(5, permitted)) as retriever:
        # One call goes on, page by page, until five documents are permitted. The others are never handed out.
        print(len(retriever.invoke(QUESTION)), "permitted")

        with retriever.open(QUESTION) as search:
            context = search.fetch_until(TokenBudget(60) | MaxResults(10))
            print(len(context), "fit into 60 tokens; stopped by", search.report.stop_reason)

            sources = search.fetch_until(DistinctBy("city", 3))
            print("more, from", ", ".join(document.metadata["city"] for document in sources))

            fresh = search.fetch_until(Fresh(2, 2015))
            print("recent ones:", ", ".join(str(document.metadata["year"]) for document in fresh))

            cursor = json.dumps(search.cursor())  # plain data: keep it in a web session, a checkpoint or a database
            print(search.report)

        with retriever.resume(json.loads(cursor)) as search:  # in this process or in another one
            rest = list(search)
        served = [document.id for document in context + sources + fresh + rest]
        print(f"{len(served)} in all, each once:", len(set(served)) == len(served))


if __name__ == "__main__":
    main()
