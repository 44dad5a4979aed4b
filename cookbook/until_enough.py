"""Until there is enough: a token budget, distinct sources, permissions, a policy of your own; and going on later.

Run it with `python cookbook/until_enough.py`, after `pip install "nextk[local,langchain]"`.
"""

import json
from typing import Any

from langchain_core.documents import Document

from nextk.langchain import ResumableRetriever
from nextk.until import Accepted, Candidate, DistinctBy, MaxResults, Policy, PolicyState, TokenBudget

PLACES = ["Rome", "Oslo", "Lima", "Cairo"]
TEXTS = [
    f"Report {number} from {PLACES[number % 4]}: the harbour was busy." + " Ships." * number for number in range(40)
]
METADATAS = [{"place": PLACES[number % 4], "year": 1990 + number, "secret": number % 3 == 0} for number in range(40)]
QUESTION = "how busy is the harbour?"


def permitted(documents: list[Document]) -> list[bool]:
    """In earnest, one call of your permission service for all of them."""
    return [not document.metadata["secret"] for document in documents]


class Fresh(Policy):
    """Until there are `n` reports that are not older than a year: a policy of your own."""

    def __init__(self, n: int, year: int) -> None:
        self.n, self.year = n, year

    def new_state(self, memory: dict[str, Any]) -> PolicyState:  # noqa: ARG002
        """Begin a call."""
        return FreshJudge(self)


class FreshJudge(PolicyState):
    """One call's count."""

    def keeps(self, candidate: Candidate) -> bool:
        """Whether a report is young enough."""
        return bool(candidate.metadata["year"] >= self.policy.year)

    def enough(self) -> bool:
        """Whether there are as many as wanted."""
        return bool(self.kept == self.policy.n)


def main() -> None:
    with ResumableRetriever.from_texts(TEXTS, metadatas=METADATAS, until=Accepted(5, permitted)) as retriever:
        # One call goes on, page by page, until five are permitted. What is not permitted is never handed out.
        print(len(retriever.invoke(QUESTION)), "permitted")

        with retriever.open(QUESTION) as search:
            context = search.fetch_until(TokenBudget(60) | MaxResults(10))
            print(len(context), "fit into 60 tokens; stopped by", search.report.stop_reason)

            sources = search.fetch_until(DistinctBy("place", 3))
            print("further ones, from", ", ".join(document.metadata["place"] for document in sources))

            fresh = search.fetch_until(Fresh(2, 2015))
            print("of late:", ", ".join(str(document.metadata["year"]) for document in fresh))

            cursor = json.dumps(search.cursor())  # plain data: put it into a session, a checkpoint, a URL's store
            print(search.report)

        with retriever.resume(json.loads(cursor)) as search:  # in this process or in any other one
            rest = list(search)
        served = [document.id for document in context + sources + fresh + rest]
        print(f"{len(served)} in all, none twice:", len(set(served)) == len(served))


if __name__ == "__main__":
    main()
