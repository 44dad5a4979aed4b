"""Documents that change: LangChain's indexing API stores what is new, removes what is gone, and embeds nothing twice.

The index is a file and embeds by itself, so that this runs without an account and without a download. Run it with
`python cookbook/index_api_with_cleanup.py`, after `pip install "nextk[local,langchain]"`.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from langchain_core.documents import Document
from langchain_core.indexing import InMemoryRecordManager, index

from nextk import Index
from nextk.langchain import ResumableVectorStore

MONDAY = {
    "opening.txt": ["The pool opens at seven.", "On Sundays the pool opens at nine."],
    "prices.txt": ["A ticket for the pool costs four euros.", "Children swim free of charge."],
    "rules.txt": ["No diving from the edge of the pool.", "Take a shower first."],
}
TUESDAY = {
    "opening.txt": ["The pool opens at seven.", "On Sundays the pool opens at ten."],  # one sentence has changed
    "prices.txt": MONDAY["prices.txt"],
    "courses.txt": ["A swimming course takes ten lessons in the small pool."],  # and rules.txt is gone
}


def documents(folder: dict[str, list[str]]) -> list[Document]:
    """Return what a loader and a splitter would: the parts of each file, with the file as their source."""
    return [Document(text, metadata={"source": file}) for file, texts in folder.items() for text in texts]


def update(store: ResumableVectorStore, seen: InMemoryRecordManager, folder: dict[str, list[str]]) -> dict[str, object]:
    """Make the store hold exactly the documents of a folder, and return how much there was to do."""
    counts = index(documents(folder), seen, store, cleanup="full", source_id_key="source", key_encoder="sha256")
    return {name.removeprefix("num_"): count for name, count in counts.items()}


def main() -> None:
    # It remembers what was stored. `SQLRecordManager` of langchain_classic.indexes does so beyond the end of a program.
    seen = InMemoryRecordManager("pool")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "pool.db"
        with Index.embedded(path, embedding="static", sparse_embedding="bm25") as opened:
            print("Monday ", update(ResumableVectorStore(opened), seen, MONDAY))
        with Index.embedded(path) as opened:  # the file knows its models
            store = ResumableVectorStore(opened)
            print("Tuesday", update(store, seen, TUESDAY))

            # The store's retriever goes on where its first results end, and what is gone is not found.
            with store.as_retriever().open("when does the pool open on Sundays?") as search:
                print("first:", [document.page_content for document in search.fetch_next(2)])
                print("then: ", [document.page_content for document in search.fetch_next(9)])


if __name__ == "__main__":
    main()
