"""An ingestion pipeline of LlamaIndex's into an index that embeds by itself, and a search over it that goes on.

Run it with `python cookbook/llama_ingestion_pipeline.py`, after `pip install "nextk[llama-index,local]"`.
"""

from llama_index.core import VectorStoreIndex
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import Document
from llama_index.core.storage.docstore import SimpleDocumentStore

from nextk import Index
from nextk.llama_index import ResumableRetriever, ResumableVectorStore

TOWNS = {
    "Oslo": "Oslo lies at the head of a fjord, and ferries leave for its islands. The opera has a roof to walk on.",
    "Bergen": "Bergen is the rainiest town of Norway: it rains on two days of three. Its harbour is lined with wooden "
    "houses. A funicular climbs the hill behind them, and on the way up it may well rain in Bergen three times.",
    "Narvik": "Narvik lies north of the polar circle. Long trains bring ore from Sweden to a port that never freezes.",
}


def documents(texts: dict[str, str]) -> list[Document]:
    return [Document(id_=town, text=text, metadata={"town": town}) for town, text in texts.items()]


def main() -> None:
    # An index in this process; `ResumableVectorStore()` takes the one that the environment names.
    store = ResumableVectorStore(Index.embedded(embedding="static", sparse_embedding="bm25"), embedding=True)
    pipeline = IngestionPipeline(
        # `store.embed_model` stands for the models of the index. It costs nothing, and downloads nothing.
        transformations=[SentenceSplitter(chunk_size=55, chunk_overlap=0), store.embed_model],
        vector_store=store,
        docstore=SimpleDocumentStore(),
        docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
    )
    added = pipeline.run(documents=documents(TOWNS))
    print("first run:", len(added), "nodes added,", len(store.get_nodes()), "in the store")

    # Bergen has changed, Narvik is gone, and Oslo, which stays as it is, is not even embedded again.
    added = pipeline.run(documents=documents({"Oslo": TOWNS["Oslo"], "Bergen": "No rain fell in Bergen this year."}))
    print("second run:", len(added), "node added,", len(store.get_nodes()), "in the store")

    # The usual things of LlamaIndex work over the store, in every mode ...
    index = VectorStoreIndex.from_vector_store(store, embed_model=store.embed_model)
    for mode in ("default", "hybrid", "mmr"):
        [best] = index.as_retriever(similarity_top_k=1, vector_store_query_mode=mode).retrieve("rain in Bergen")
        print(f"{mode}: {best.text}")

    # ... and the same search goes on for as long as it has to.
    with ResumableRetriever.from_index(index).open("rain in Bergen") as search:
        while nodes := search.fetch_next(1):
            print(f"next, of {nodes[0].metadata['town']}: {nodes[0].text}")
    assert {"Oslo", "Bergen"} == {node.metadata["town"] for node in store.get_nodes()}
    store.client.close()


if __name__ == "__main__":
    main()
