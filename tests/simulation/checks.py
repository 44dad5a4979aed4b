"""The promises that are checked when a run is over. Each check yields a sentence for each fault."""

from collections.abc import Iterator
from itertools import chain

from nextk import Index
from nextk.engine.engine import EmbeddedEngine
from nextk.sessions import RetrievalSession, SearchQuery
from nextk.transport.in_process import InProcessTransport, SharedEngine
from tests.simulation.others import Page
from tests.simulation.searcher import Found
from tests.support.searches import IDS

_ALL = 1_000  # more rows than there are


def index_of(engine: EmbeddedEngine) -> Index:
    """Return the index of an engine, without a network in between. It needs not be closed."""
    shared = SharedEngine(None, engine)
    return Index._over(InProcessTransport(shared, lambda: shared))


def undisturbed(engine: EmbeddedEngine, question: SearchQuery, sizes: list[int]) -> list[str]:
    """Return the ids that pages of these sizes bring without faults.

    Args:
        engine: The engine.
        question: The query.
        sizes: The sizes of the pages.
    """
    with RetrievalSession(index_of(engine), question, IDS) as session:
        return list(chain.from_iterable(session.fetch_next(size) for size in sizes))


def queried(engine: EmbeddedEngine, question: SearchQuery, count: int) -> list[str]:
    """Return the ids that a plain query brings without faults.

    Args:
        engine: The engine.
        question: The query.
        count: The number of matches to request.
    """
    return [match.id for match in index_of(engine).query(top_k=count, **question.parameters())]


def wrong_search(found: Found, engine: EmbeddedEngine, *, written: bool, plain: bool) -> Iterator[str]:
    """Check what a client has found: each id once, and none left out.

    Args:
        found: What it has found.
        engine: The engine.
        written: Whether anybody has written meanwhile. If nobody has, the order is exact.
        plain: Whether the client had to make a plain query, since there was no room for another one.
    """
    name, ids = found.plan.name, found.ids
    if twice := sorted({id_ for id_ in ids if ids.count(id_) > 1}):
        yield f"{name} got {twice} more than once"
    sizes = [len(page) for page in found.pages if page]
    if sizes[:-1] != found.sizes[: len(sizes) - 1] or (sizes and sizes[-1] > found.sizes[len(sizes) - 1]):
        yield f"{name} got pages of {sizes} matches when it requested {found.sizes}: only the last one may be short"
    if written:
        yield from _wrong_among_writes(found)
        return
    question = found.plan.question
    if found.changed and not plain:
        yield f"the sessions of {name} say that something has changed, and nobody has written"
    expected = undisturbed(engine, question, found.sizes)
    if plain and ids != expected:  # the query was made, but its reply may have been lost
        expected = queried(engine, question, _ALL)
    if not found.ended:
        expected = expected[: len(ids)]
    if ids != expected:
        yield f"{name} got {' '.join(ids)}\n  instead of {' '.join(expected)}"


def _wrong_among_writes(found: Found) -> Iterator[str]:
    """Check that what nobody has touched came, in order, and that nothing came which was never there."""
    name, question = found.plan.name, found.plan.question
    if ghosts := set(found.ids) - found.before - found.touched:
        yield f"{name} got {sorted(ghosts)}, which were not there"
    untouched = {id_ for id_ in found.before - found.touched if found.plan.finds(id_)}
    if found.ended and (missing := untouched - set(found.ids)):
        yield f"{name} did not get {sorted(missing)}, which nobody has touched"
    if question.vector is None or question.sparse_vector is None:  # else the ranks depend on what is written
        scores = [match.score for page in found.pages for match in page if match.id in untouched]
        if scores != sorted(scores, reverse=True):
            yield f"{name} got what nobody has touched in another order than that of the scores: {scores}"


def wrong_page(page: Page, engine: EmbeddedEngine, *, written: bool) -> Iterator[str]:
    """Check what a plain query has found.

    Args:
        page: What it has found.
        engine: The engine.
        written: Whether anybody has written meanwhile.
    """
    if len(set(page.ids)) < len(page.ids):
        yield f"a plain query got an id twice: {' '.join(page.ids)}"
    if not written:
        expected = queried(engine, page.question, page.count)
        if page.ids != expected:
            yield f"a plain query got {' '.join(page.ids)}\n  instead of {' '.join(expected)}"


def wrong_rows(rows: dict[str, int], engine: EmbeddedEngine) -> Iterator[str]:
    """Check that the index holds what was written last.

    Args:
        rows: The version of each row.
        engine: The engine.
    """
    records = index_of(engine).range(limit=_ALL, include_metadata=True).vectors
    stored = {record.id: (record.metadata or {})["version"] for record in records}
    if stored != rows:
        different = sorted({id_ for id_, _ in stored.items() ^ rows.items()})
        yield f"the index holds other versions of {different} than were written last"
