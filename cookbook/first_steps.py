"""First steps: the first page of a search, the next pages, and its end. It needs no server, account or download.

Run it with `python cookbook/first_steps.py`, after `pip install "nextk[local,langchain,llama-index]"`.
"""

import asyncio

from llama_index.core.schema import TextNode

from nextk import langchain, llama_index

FACTS = [
    "The sky is blue because air scatters blue light more than red.",
    "At sunset the sky turns red: the light has crossed more air.",
    "The sky of Mars is butterscotch by day and blue at dusk.",
    "Clouds are white because their droplets scatter every colour alike.",
    "Grass is green because chlorophyll absorbs red and blue light.",
    "The sea looks blue because water absorbs red light.",
    "Blue whales are the largest animals that ever lived.",
    "Bread rises because yeast makes bubbles of carbon dioxide.",
]
QUESTION = "why is the sky blue?"


def with_langchain() -> None:
    print("LangChain")
    with langchain.ResumableRetriever.from_texts(FACTS, k=2) as retriever:
        for document in retriever.invoke(QUESTION):  # as with any retriever: one query, k documents
            print("  invoke  ", document.page_content)

        with retriever.open(QUESTION) as search:  # nothing is searched yet
            for document in search.fetch_next(2):  # the first page
                print("  first   ", document.page_content)
            for document in search.fetch_next(3):  # the same search goes on, and nothing comes twice
                print("  more    ", document.page_content)
        print("  `with` has stopped the search, and the index has released it:", search)


def with_llama_index() -> None:
    print("LlamaIndex")
    nodes = [TextNode(text=fact, metadata={"length": len(fact)}) for fact in FACTS]
    with llama_index.ResumableRetriever.from_nodes(nodes, similarity_top_k=2) as retriever:
        with retriever.open(QUESTION, filter="length < 60") as search:
            for node in search:  # pulls as the loop goes on
                print(f"  {node.score:.4f}  ", node.text)
                if "red" in node.text:
                    break
        print("  left early, and stopped by `with`:", search)


async def with_asyncio() -> None:
    print("asyncio")
    async with langchain.ResumableRetriever.from_texts(FACTS) as retriever:
        async with retriever.aopen(QUESTION) as search:
            pulls = 0
            while await search.fetch_next(3):
                pulls += 1
        print(f"  everything, in {pulls} pulls:", search)  # a short page is not the end; only an empty one is


def main() -> None:
    with_langchain()
    with_llama_index()
    asyncio.run(with_asyncio())


if __name__ == "__main__":
    main()
