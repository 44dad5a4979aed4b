"""The texts that a model reads: descriptions of the tools, pages of results, and refusals.

They say nothing of documents that were left out, denied or counted.
"""

from collections.abc import Iterable, Sequence

from nextk.agents.memory import CallPlan, Refusal

SEARCH_DESCRIPTION = (
    "{purpose} Returns the best results and the id of the search. If they are not enough, call {more} with that id "
    "instead of searching again: it goes on where the results ended and never repeats one."
)
DEFAULT_PURPOSE = "Search the knowledge base."
MORE_DESCRIPTION = (
    "The next results of an earlier {search} call. Call it again for still more, until it says that there are none."
)
CLOSE_DESCRIPTION = "Ends an earlier {search} call that is not needed any more. Nothing else has to be done with it."
QUERY_DESCRIPTION = "What to look for."
SEARCH_ID_DESCRIPTION = "The id of the search, as its results gave it."
SEARCH_CLOSED = "The search is closed."

_HEADING = 'Results for "{query}" (search id: {id}):'
_REPEATED_HEADING = 'This query was put before. More results for "{query}" (search id: {id}):'
_MORE_HINT = 'For more results call {more} with search_id="{id}".'
_LAST_RESULTS = "These were the last results of this search."
_NO_RESULTS = 'No results for "{query}".'
_NO_MORE_RESULTS = "No more results: everything that this search finds has been shown. Put another query if needed."
_NONE_YET = 'Nothing further found yet. To look further call {more} with search_id="{id}"; another query may find more.'
_LIMIT_REACHED = "No more results of this search can be shown. Put a more specific query if needed."
_BLANK_QUERY = "The query is empty: give some words to look for."
_UNKNOWN_SEARCH = "No search with this id can be continued: it is unknown or has expired. Call {search} again."
_POLICIES_CHANGED = (
    "This search cannot be continued, because the rules for what it may show have changed. Call {search} again."
)
_KNOWN_SEARCHES = "These can be continued: {list}."


def results_page(plan: CallPlan, texts: Sequence[str], *, exhausted: bool, limit_reached: bool, more_tool: str) -> str:
    """Return the results of a call, numbered, with a last line that says what can be done next.

    Args:
        plan: The plan of the call.
        texts: The texts of the documents, best first.
        exhausted: Whether the search is at its end.
        limit_reached: Whether the search has shown as many documents as it may.
        more_tool: The name of the tool that continues a search.
    """
    words = {"query": plan.query, "id": plan.search_id, "more": more_tool}
    if not texts:
        nothing_at_all = exhausted and not plan.calls and not plan.shown
        return (_NO_RESULTS if nothing_at_all else _NO_MORE_RESULTS if exhausted else _NONE_YET).format(**words)
    heading = (_REPEATED_HEADING if plan.repeated else _HEADING).format(**words)
    results = [f"[{number}] {text}" for number, text in enumerate(texts, plan.first_number)]
    ending = _LAST_RESULTS if exhausted else _LIMIT_REACHED if limit_reached else _MORE_HINT.format(**words)
    return "\n\n".join([heading, *results, ending])


def refusal(reason: Refusal, *, search_tool: str, known: Iterable[tuple[str, str]]) -> str:
    """Return why there are no results, and what the model can do instead.

    Args:
        reason: The reason of the refusal.
        search_tool: The name of the tool that begins a search.
        known: The id and the query of each search that can be continued.
    """
    match reason:
        case Refusal.BLANK:
            return _BLANK_QUERY
        case Refusal.EXHAUSTED:
            return _NO_MORE_RESULTS
        case Refusal.MAX_RESULTS:
            return _LIMIT_REACHED
        case Refusal.POLICIES_CHANGED:
            return _POLICIES_CHANGED.format(search=search_tool)
        case Refusal.UNKNOWN:
            listed = ", ".join(f'{id_} ("{query}")' for id_, query in known)
            unknown = _UNKNOWN_SEARCH.format(search=search_tool)
            return f"{unknown} {_KNOWN_SEARCHES.format(list=listed)}" if listed else unknown
