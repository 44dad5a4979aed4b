"""A source of your own: sessions over the full-text index of SQLite, which finds the best rows, and no more.

Run it with `python cookbook/a_source_of_your_own.py`, after `pip install nextk`.
"""

import re
import sqlite3
import threading

from nextk.sessions import RetrievalSession, RowReader, SearchQuery
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


def permitted(texts: list[str]) -> list[bool]:
    return ["very very" in text for text in texts]


def main() -> None:
    source = NotesSource(TEXTS)
    reader = RowReader(lambda row: row.data)  # what the session hands out
    with RetrievalSession(source, SearchQuery(data="a busy harbour"), reader) as search:
        print(search.fetch_next(3))
        print(search.fetch_until(Accepted(3, permitted)))
        print(f"{search.report.pulled} rows came by {search.report.continuation}")
        cursor = search.cursor()  # plain data: keep it anywhere, and go on later
    with RetrievalSession(source, SearchQuery(data="a busy harbour"), reader, cursor=cursor) as search:
        print(len(list(search)), "further rows")
    source.database.close()


if __name__ == "__main__":
    main()
