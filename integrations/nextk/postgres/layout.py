"""The tables of nextk in a database schema, and how they are made, whoever comes first.

    layout                one row: the version of the tables
    indexes               the indexes of this schema by their names, and the schema of each
    namespaces            the namespaces of all indexes by their names, with the number of their records
    records_<number>      the records of one index, which is made once its type and its dimension are known

A record has a row, which no other record of its index ever has, and a number, by which the records of a namespace are
in the order in which they were inserted. The number begins anew when a namespace is reset. Its metadata are there
twice: as they were written, for answers, and as jsonb, for filters.
"""

from dataclasses import dataclass
from functools import cached_property

from psycopg import sql

from nextk.engine.schema import Schema, Similarity
from nextk.errors import ClientError
from nextk.postgres import sparse
from nextk.postgres.database import DatabaseConnection, require_pgvector

__all__ = [
    "Tables",
    "create_record_tables",
    "create_vector_index",
    "has_tables",
    "has_vector_index",
    "prepare",
    "vector_index_statement",
]

VERSION = 1
"""The version of the tables that this version of nextk makes and reads."""

INDEXED_DIMENSIONS = 2_000
"""The dimensions up to which pgvector makes an index of float32 vectors."""

HALF_DIMENSIONS = 4_000
"""The dimensions up to which pgvector makes an index of vectors that are rounded to float16."""

_LOCK = 0x6E6578746B  # "nextk"; of the advisory lock under which tables are made
_CLASSES = {Similarity.COSINE: "cosine", Similarity.EUCLIDEAN: "l2", Similarity.DOT_PRODUCT: "ip"}


@dataclass(frozen=True)
class Tables:
    """The names of the tables, ready to be put into statements.

    Attributes:
        schema: The database schema.
        number: The number of the index in it; 0 where no index is meant.
    """

    schema: str
    number: int = 0

    @cached_property
    def layout(self) -> sql.Identifier:
        """The table with the version."""
        return sql.Identifier(self.schema, "layout")

    @cached_property
    def indexes(self) -> sql.Identifier:
        """The table of the indexes."""
        return sql.Identifier(self.schema, "indexes")

    @cached_property
    def namespaces(self) -> sql.Identifier:
        """The table of the namespaces."""
        return sql.Identifier(self.schema, "namespaces")

    @cached_property
    def records(self) -> sql.Identifier:
        """The table of the records of the index."""
        return sql.Identifier(self.schema, self.records_name)

    @cached_property
    def vector_index(self) -> sql.Identifier:
        """The index of the dense vectors."""
        return sql.Identifier(self.schema, self.vector_index_name)

    @property
    def vector_index_name(self) -> str:
        """The name of the index of the dense vectors in the database schema."""
        return f"{self.records_name}_dense"

    @property
    def records_name(self) -> str:
        """The name of the table of the records in its database schema."""
        return f"records_{self.number}"


def prepare(connection: DatabaseConnection, schema: str) -> None:
    """Make the tables that all indexes of a database schema share, or check that they can be used.

    Several processes may do so at once: one makes the tables, and the others wait for it.

    Args:
        connection: A connection to the database, outside of a transaction.
        schema: The database schema, which is made as well.

    Raises:
        ClientError: The tables are those of a later version of nextk, or the database has no pgvector.
        psycopg.Error: They cannot be made.
    """
    tables = Tables(schema)
    if not _exists(connection, tables):
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            if not _exists(connection, tables):
                _create(connection, tables)
    require_pgvector(connection)
    found = connection.execute(sql.SQL("SELECT version FROM {}").format(tables.layout)).fetchone()
    version = None if found is None else found[0]
    if version != VERSION:
        message = (
            f"the tables in the database schema {schema} have the version {version}, and this version of nextk reads "
            f"{VERSION}: install the version of nextk that made them, or give another schema="
        )
        raise ClientError(message)


def _exists(connection: DatabaseConnection, tables: Tables) -> bool:
    found = connection.execute(
        "SELECT 1 FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace AS spaces ON spaces.oid = relnamespace"
        " WHERE nspname = %s AND relname = 'layout'",
        (tables.schema,),
    )
    return found.fetchone() is not None


def _create(connection: DatabaseConnection, tables: Tables) -> None:
    if connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchone() is None:
        connection.execute("CREATE EXTENSION vector")
    spaces = connection.execute("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s", (tables.schema,))
    if spaces.fetchone() is None:  # else the right to make one would be needed
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(tables.schema)))
    made = sql.SQL(
        """
        CREATE TABLE {indexes} (
            number int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            name text COLLATE "C" NOT NULL UNIQUE,
            id text NOT NULL,
            schema jsonb NOT NULL);
        CREATE TABLE {namespaces} (
            key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            index_number int NOT NULL REFERENCES {indexes},
            name text COLLATE "C" NOT NULL,
            records bigint NOT NULL DEFAULT 0,
            next_number bigint NOT NULL DEFAULT 1,
            UNIQUE (index_number, name));
        CREATE TABLE {layout} (version int NOT NULL);
        INSERT INTO {layout} VALUES ({version})
        """
    ).format(
        indexes=tables.indexes,
        namespaces=tables.namespaces,
        layout=tables.layout,
        version=sql.Literal(VERSION),
    )
    connection.execute(made)


def has_tables(schema: Schema) -> bool:
    """Return whether the tables of the records exist: once the type is decided, and the dimension that it needs."""
    return not schema.undecided and (not schema.dense or schema.dimension is not None)


def create_record_tables(connection: DatabaseConnection, tables: Tables, schema: Schema) -> None:
    """Make the tables of the records of an index.

    Args:
        connection: A connection to the database, in a transaction.
        tables: The names of the tables.
        schema: The schema of the index, of which the type and the dimension are decided.
    """
    columns: list[sql.Composable] = []
    if schema.dense:
        columns.append(sql.SQL("dense vector({}) NOT NULL").format(sql.Literal(schema.dimension)))
    if schema.sparse:
        columns += [sql.SQL("sparse_indices int4[] NOT NULL"), sql.SQL("sparse_values float4[] NOT NULL")]
    made = sql.SQL(
        """
        CREATE TABLE {records} (
            namespace bigint NOT NULL,
            row bigint GENERATED ALWAYS AS IDENTITY,
            number bigint NOT NULL,
            id text COLLATE "C" NOT NULL,
            metadata jsonb,
            metadata_text text,
            data text,
            {columns},
            PRIMARY KEY (namespace, row),
            UNIQUE (namespace, number),
            UNIQUE (namespace, id))
        """
    )
    connection.execute(made.format(records=tables.records, columns=sql.SQL(", ").join(columns)))
    connection.execute(sql.SQL("CREATE INDEX ON {} USING gin (metadata jsonb_path_ops)").format(tables.records))
    if schema.sparse:
        sparse.create(connection, tables.schema, tables.number)


def has_vector_index(connection: DatabaseConnection, tables: Tables) -> bool:
    """Return whether the index of the dense vectors exists."""
    found = connection.execute("SELECT to_regclass(%s)", (tables.vector_index.as_string(),)).fetchone()
    return found is not None and found[0] is not None


def create_vector_index(connection: DatabaseConnection, tables: Tables, schema: Schema) -> None:
    """Make the index of the dense vectors, unless it exists, or there are too many dimensions for one.

    An index over vectors that are there is made several times faster than one that every vector is added to. Writers
    wait meanwhile, and searches do not.

    Args:
        connection: A connection, in a transaction that holds no lock.
        tables: The names of the tables.
        schema: The schema of the index.
    """
    if (make := vector_index_statement(tables, schema)) is None:
        return
    with connection.transaction():
        connection.execute("SET LOCAL statement_timeout = 0")
        connection.execute(make)


def vector_index_statement(tables: Tables, schema: Schema) -> sql.Composed | None:
    """Return the statement that makes the index of the dense vectors; `None` if there can be none.

    Args:
        tables: The names of the tables.
        schema: The schema of the index.
    """
    if (indexed := _indexed(schema)) is None:
        return None
    make = sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} USING hnsw ({})")
    return make.format(sql.Identifier(tables.vector_index_name), tables.records, indexed)


def _indexed(schema: Schema) -> sql.Composable | None:
    """Return what the index of the dense vectors is made of; `None` if there is none."""
    dimension = schema.dimension
    if not schema.dense or dimension is None or dimension > HALF_DIMENSIONS:
        return None
    name = _CLASSES[schema.similarity]
    if dimension <= INDEXED_DIMENSIONS:
        return sql.SQL("dense {}").format(sql.Identifier(f"vector_{name}_ops"))
    return sql.SQL("(dense::halfvec({})) {}").format(sql.Literal(dimension), sql.Identifier(f"halfvec_{name}_ops"))
