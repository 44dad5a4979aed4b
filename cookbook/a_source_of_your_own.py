"""A source of your own: sessions over the full-text index of SQLite, which finds the best rows, and no more.

Run it with `python cookbook/a_source_of_your_own.py`, after `pip install "nextk[langchain]"`.
"""

import re
import sqlite3
import threading

from langchain_core.documents import Document

from nextk.langchain import ResumableRetriever
from nextk.sessions import SearchQuery
from nextk.stores import RefetchSource, StoreRow
from nextk.until import Accepted

TEXTS = [f"Note {number}: the harbour was {'very ' * (number % 5)}busy." for number in range(60)]


class NotesSource(RefetchSource):
    """Notes in SQLite, ranked by BM25. `nextk.testing.SourceCompliance` tests it, as it tests any source."""

    identity = "notes"  # a cursor goes on over a source of this name, in any process
    stable_order = True  # a query finds the same rows in the same order, until something is written
    filters = False

    def __init__(self, texts: list[str]) -> None:
        self.database = sqlite3.connect(":memory:", check_same_thread=False)
        self.turn = threading.Lock()  # several threads may search at once
        self.database.execute("CREATE VIRTUAL TABLE notes USING fts5(text)")
        self.database.executemany("INSERT INTO notes VALUES (?)", [(text,) for text in texts])

    def query(self, query: SearchQuery, count: int) -> list[StoreRow]:
        """Return the best `count` rows. Each has an id of its own, and a score that is higher for a nearer row."""
        words = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", query.data or ""))
        sql = "SELECT rowid, -bm25(notes), text FROM notes(?) ORDER BY bm25(notes), rowid LIMIT ?"
        with self.turn:
            found = self.database.execute(sql, (words, count)).fetchall() if words else []
        return [StoreRow(str(id_), score, data=text) for id_, score, text in found]


def permitted(documents: list[Document]) -> list[bool]:
    return ["very very" in document.page_content for document in documents]


def main() -> None:
    source = NotesSource(TEXTS)
    retriever = ResumableRetriever(source=source)  # or nextk.llama_index's, or a RetrievalSession without a framework
    print([document.page_content for document in retriever.invoke("a busy harbour", until=Accepted(3, permitted))])
    with retriever.open("a busy harbour") as search:
        first, second = search.fetch_next(5), search.fetch_next(5)
        cursor = search.cursor()  # plain data: keep it anywhere, and go on later
    with retriever.resume(cursor) as search:
        print(len(first + second), "rows, and", len(list(search)), "further ones by", search.report.continuation)
    source.database.close()


if __name__ == "__main__":
    main()
