"""A query engine that goes on retrieving until enough nodes have passed its postprocessors.

Run it with `python cookbook/refilling_query_engine.py`, after `pip install "nextk[local,llama-index]"`.
"""

import asyncio

from llama_index.core.llms import MockLLM
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from nextk.llama_index import RefillingQueryEngine, ResumableRetriever

PLACES = ["Rome", "Oslo", "Lima", "Cairo", "Perth"]
NODES = [
    TextNode(
        id_=f"report-{year}",
        text=f"The harbour of {PLACES[year % 5]} was busy." + " Ships came and went." * (year % 7),
        metadata={"year": year},
    )
    for year in range(1980, 2020)
]
QUESTION = "how busy is the harbour?"


class Recent(BaseNodePostprocessor):
    """Leave out old nodes. In production: a reranker's cutoff, required keywords, permissions, duplicates."""

    since: int

    def _postprocess_nodes(
        self,
        nodes: list[NodeWithScore],
        query_bundle: QueryBundle | None = None,  # noqa: ARG002 - LlamaIndex's
    ) -> list[NodeWithScore]:
        return [node for node in nodes if node.node.metadata["year"] >= self.since]


def main() -> None:
    llm = MockLLM()  # says its prompt; yours comes here, or from Settings.llm
    steps: list[BaseNodePostprocessor] = [Recent(since=2010)]
    with ResumableRetriever.from_nodes(NODES, similarity_top_k=3) as retriever:
        plain = RetrieverQueryEngine.from_args(retriever, llm, node_postprocessors=steps)
        print(len(plain.query(QUESTION).source_nodes), "of 3 nodes are left to answer from, whatever else there is")

        engine = RefillingQueryEngine.from_args(retriever, llm, node_postprocessors=steps, min_nodes=3)
        answer = engine.query(QUESTION)  # the same search goes on: 3 nodes, 6, 12, ...
        for found in answer.source_nodes:
            print("  ", found.node_id, found.node.metadata["year"])
        assert len(answer.source_nodes) >= 3

        # What is left is what the plain engine leaves of more nodes, so rerankers compare all of them.
        retriever.similarity_top_k = 12
        more = [found.node_id for found in plain.query(QUESTION).source_nodes]
        again = asyncio.run(engine.aquery(QUESTION))  # `similarity_top_k` is the size of the first round
        print("a larger similarity_top_k leaves the same:", more == [found.node_id for found in again.source_nodes])


if __name__ == "__main__":
    main()
