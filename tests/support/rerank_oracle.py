"""An oracle that finds by brute force when the best matches of a reranker have settled."""

from collections.abc import Mapping, Sequence


def ranked(scores: Mapping[str, float], ids: Sequence[str]) -> list[str]:
    """Return ids by score, best first; of equal scores, the earlier id first."""
    return sorted(ids, key=lambda id_: -scores[id_])


def settled(scores: Mapping[str, float], ids: Sequence[str], n: int, patience: int, window: int) -> int | None:
    """Return after how many ids the best `n` have been the same for `patience` windows.

    Args:
        scores: The reranker's score of each id.
        ids: The ids in the order of the search.
        n: The number of best ids that have to stay the same.
        patience: The number of consecutive windows in which they have to stay the same.
        window: The number of ids in a window.

    Returns:
        A multiple of `window`, or `None` if the best ids never settle.
    """
    bests = [set(ranked(scores, ids[:end])[:n]) for end in range(window, len(ids) + 1, window)]
    for position in range(patience, len(bests)):
        if all(best == bests[position] for best in bests[position - patience : position]):
            return (position + 1) * window
    return None
