"""What a model reads of its searches. Of what was left out, denied or counted it learns nothing."""

from collections.abc import Iterable, Sequence

from nextk.agents.memory import CallPlan, Refusal

SEARCH = (
    "{purpose} Returns the best results and the id of the search. If they are not enough, call {more} with that id "
    "instead of searching again: it goes on where the results ended and never repeats one."
)
PURPOSE = "Search the knowledge base."
MORE = "The next results of an earlier {search} call. Call it again for still more, until it says that there are none."
CLOSE = "Ends an earlier {search} call that is not needed any more. Nothing else has to be done with it."
QUERY = "What to look for."
SEARCH_ID = "The id of the search, as its results gave it."

_HEADING = 'Results for "{query}" (search id: {id}):'
_AGAIN = 'This query was put before. More results for "{query}" (search id: {id}):'
_HINT = 'For more results call {more} with search_id="{id}".'
_END = "These were the last results of this search."
_NOTHING = 'No results for "{query}".'
_NO_MORE = "No more results: everything that this search finds has been shown. Put another query if needed."
_PAUSED = 'Nothing further found yet. To look further call {more} with search_id="{id}"; another query may find more.'
_LIMIT = "No more results of this search can be shown. Put a more specific query if needed."
_BLANK = "The query is empty: give some words to look for."
_UNKNOWN = "No search with this id can be continued: it is unknown or has expired. Call {search} again."
_CLOSED = "The search is closed."
_OPEN = "These can be continued: {list}."


def closed() -> str:
    """That a search is at its end because the model said so."""
    return _CLOSED


def page(plan: CallPlan, texts: Sequence[str], *, exhausted: bool, limit: bool, more: str) -> str:
    """The results of a call, and what can be done next.

    Args:
        plan: What the call was to do.
        texts: Of the documents, best first.
        exhausted: Whether the search is at its end.
        limit: Whether it has shown all that it may.
        more: The name of the tool that goes on.
    """
    names = {"query": plan.query, "id": plan.search_id, "more": more}
    if not texts:
        nothing_at_all = exhausted and not plan.turn and not plan.shown
        return (_NOTHING if nothing_at_all else _NO_MORE if exhausted else _PAUSED).format(**names)
    heading = (_AGAIN if plan.repeated else _HEADING).format(**names)
    results = [f"[{number}] {text}" for number, text in enumerate(texts, plan.first)]
    ending = _END if exhausted else _LIMIT if limit else _HINT.format(**names)
    return "\n\n".join([heading, *results, ending])


def refusal(why: Refusal, *, search: str, known: Iterable[tuple[str, str]]) -> str:
    """Why there are no results, and what to do instead.

    Args:
        why: The reason.
        search: The name of the tool that searches.
        known: Id and query of each search that can be continued.
    """
    match why:
        case Refusal.BLANK:
            return _BLANK
        case Refusal.OVER:
            return _NO_MORE
        case Refusal.LIMIT:
            return _LIMIT
        case Refusal.UNKNOWN:
            listed = ", ".join(f'{id_} ("{query}")' for id_, query in known)
            unknown = _UNKNOWN.format(search=search)
            return f"{unknown} {_OPEN.format(list=listed)}" if listed else unknown
