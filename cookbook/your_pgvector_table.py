"""A table of PostgreSQL with pgvector that you have: a call until there is enough, and all rows of a narrow filter.

Of what you have nothing is copied, and nothing is changed. The model here is a pretender, and the table is made in a
schema of its own, which is dropped in the end; put yours in their place. Run it with
`DATABASE_URL=postgresql://localhost/app python cookbook/your_pgvector_table.py`, after
`pip install "nextk[postgres,langchain]"`.
"""

import os

import psycopg
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from psycopg.sql import SQL

from nextk.langchain import ResumableRetriever
from nextk.stores.postgres import PostgresSource
from nextk.until import Accepted

QUESTION = "how busy is the harbour?"
MODEL = DeterministicFakeEmbedding(size=16)
SCHEMA = "nextk_recipe"


def a_table_that_you_have(dsn: str) -> None:
    """Make what you have already: a table of 4,000 reports, a fourth of which everybody may read, with an index."""
    texts = [f"Report {number}: {number} ships in the harbour." for number in range(4_000)]
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute(f"CREATE SCHEMA {SCHEMA}; SET search_path = {SCHEMA}, public")
        columns = "id bigint PRIMARY KEY, body text, tenant int, attributes jsonb, embedding vector(16)"
        connection.execute(f"CREATE TABLE reports ({columns})")
        with connection.cursor().copy("COPY reports FROM STDIN") as rows:
            for number, (text, vector) in enumerate(zip(texts, MODEL.embed_documents(texts), strict=True)):
                attributes = f'{{"year": {1990 + number % 30}, "public": {str(number % 4 == 0).lower()}}}'
                rows.write_row((number, text, number % 100, attributes, f"[{','.join(map(str, vector))}]"))
        connection.execute("CREATE INDEX ON reports USING hnsw (embedding vector_cosine_ops)")
        connection.execute("ANALYZE reports")


def permitted(documents: list[Document]) -> list[bool]:
    """Permit what is public. A real check would call your permission service once for all documents."""
    return [document.metadata["public"] for document in documents]


def a_search_of_it(dsn: str) -> None:
    # The table as it is, named by its columns, and a call that goes on until ten documents are permitted.
    source = PostgresSource(dsn, (SCHEMA, "reports"), text="body", metadata="attributes")
    retriever = ResumableRetriever(source=source, embedding=MODEL)
    documents = retriever.invoke(QUESTION, until=Accepted(10, permitted))
    assert len(documents) == 10
    assert all(permitted(documents))

    # A search is a cursor of the server: each row is moved once, and all pages see one state of the table.
    with retriever.open(QUESTION) as search:
        for _ in range(15):
            search.fetch_next(10)
    assert (search.report.continuation, search.report.pulled, search.report.refetched) == ("native", 150, 0)

    # Filters are texts over the metadata, dicts, or SQL with its values. A narrow one finds all rows that pass, where a
    # cursor by hand ends as soon as pgvector has visited `hnsw.max_scan_tuples` rows.
    recent = retriever.invoke(QUESTION, k=20, filter="year >= 2015 AND public = TRUE")
    assert all(document.metadata["year"] >= 2015 for document in recent)
    with retriever.open(QUESTION, filter=(SQL("tenant = %s"), [7])) as search:
        assert len(search.fetch_next(1_000)) == 40
        assert search.fetch_next(1_000) == []
    print("10 permitted documents, and all 40 of one tenant")
    source.close()

    # Behind PgBouncer in transaction mode, and in serverless functions, nothing is kept open between two pages.
    stateless = PostgresSource(dsn, (SCHEMA, "reports"), text="body", metadata="attributes", stateless=True)
    with ResumableRetriever(source=stateless, embedding=MODEL).open(QUESTION) as search:
        pages = [search.fetch_next(10) for _ in range(3)]
    assert len({document.id for page in pages for document in page}) == 30
    assert search.report.continuation == "exclusion"
    stateless.close()


def main(dsn: str) -> None:
    a_table_that_you_have(dsn)
    try:
        a_search_of_it(dsn)
    finally:
        with psycopg.connect(dsn) as connection:
            connection.execute(f"DROP SCHEMA {SCHEMA} CASCADE")


if __name__ == "__main__":
    main(os.environ["DATABASE_URL"])
