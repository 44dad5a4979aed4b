"""When the best rows of a reranker have settled, by brute force."""

from collections.abc import Mapping, Sequence


def ranked(scores: Mapping[str, float], ids: Sequence[str]) -> list[str]:
    """Some ids by score, best first; of equals, the earlier one."""
    return sorted(ids, key=lambda id_: -scores[id_])


def settled(scores: Mapping[str, float], ids: Sequence[str], n: int, patience: int, window: int) -> int | None:
    """After how many ids the best `n` have been the same for `patience` windows; `None` if they never are."""
    bests = [set(ranked(scores, ids[:end])[:n]) for end in range(window, len(ids) + 1, window)]
    for place in range(patience, len(bests)):
        if all(best == bests[place] for best in bests[place - patience : place]):
            return (place + 1) * window
    return None
