"""The targets of a run: ratios of CPU times, and recalls."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Result = dict[str, Any]
"""All figures of one corpus, as JSON has them; `measure` in `__main__.py` says which."""

Figures = Mapping[str, Mapping[str, float]]
"""The figures of ways, by their names."""


@dataclass(frozen=True)
class Target:
    """A figure that is not to pass a limit.

    Attributes:
        name: What is compared with what.
        limits: The limit at 100,000 rows and at 1,000,000; `None` where the figure is only reported.
        at_least: Whether the figure is to reach the limit, and not to stay below it.
    """

    name: str
    limits: tuple[float | None, float | None]
    at_least: bool = False

    def limit(self, rows: int) -> float | None:
        """Return the limit at the nearest size that has one; there is none for less than 60,000 rows."""
        return None if rows < 60_000 else self.limits[rows >= 316_228]

    def is_met(self, figure: float, rows: int) -> bool:
        """Return whether a figure is within the limit."""
        limit = self.limit(rows)
        return limit is None or (figure >= limit if self.at_least else figure <= limit)


FIRST = Target("dense first / numpy brute kept", (0.15, 0.08))
DEEP = Target("dense P2 / hnswlib over-fetching", (0.6, 2.5))
PAGES = Target("dense P1 / hnswlib over-fetching", (3.0, 12.0))
CHROMA = Target("dense P2 / chromadb asked again", (0.2, None))
DBSF = Target("hybrid DBSF first / (dense first + sparse first)", (2.0, 2.0))
RRF = Target("hybrid RRF first / (dense first + sparse first)", (5.0, None))
FILTERED = Target("filtered P1 at 10 % / unfiltered P1", (1.5, 1.5))
CHURNED = Target("P1 after deleting and replacing 10 % / before", (1.2, 1.2))
BUILD = Target("build / hnswlib's", (0.05, 0.03))
RECALL = Target("{}, mean recall", (0.995, 0.995), at_least=True)
WORST = Target("{}, recall of the worst question", (0.95, 0.95), at_least=True)


def figures(result: Result) -> Iterator[tuple[str, Target, float]]:
    """Yield every target with its name and the figure that was measured; those that were not measured are left out."""
    pages, deep, prices = result["patterns"]["P1"], result["patterns"]["P2"], result["ways"]
    yield FIRST.name, FIRST, _ratio(pages, "nextk", "numpy brute kept", "first_cpu")
    if "hnswlib over-fetching" in pages:
        yield DEEP.name, DEEP, _ratio(deep, "nextk", "hnswlib over-fetching", "cpu")
        yield PAGES.name, PAGES, _ratio(pages, "nextk", "hnswlib over-fetching", "cpu")
    if "chromadb asked again" in deep:
        yield CHROMA.name, CHROMA, _ratio(deep, "nextk", "chromadb asked again", "cpu")
    first = {mode: each["first_cpu"] for mode, each in result["modes"]["P1"].items()}
    both = first["nextk dense"] + first["nextk sparse"]
    yield DBSF.name, DBSF, first["nextk hybrid DBSF"] / both
    yield RRF.name, RRF, first["nextk hybrid RRF"] / both
    yield FILTERED.name, FILTERED, _ratio(result["filtered"], "nextk 10 %", "nextk unfiltered", "cpu")
    yield CHURNED.name, CHURNED, _churned(result["churned"], pages)
    if "hnswlib over-fetching" in prices:
        yield BUILD.name, BUILD, _ratio(prices, "nextk", "hnswlib over-fetching", "build_seconds")
    for pattern, ways in result["patterns"].items():
        for target, figure in ((RECALL, "recall"), (WORST, "recall_worst")):
            yield target.name.format(pattern), target, ways["nextk"][figure]


def _churned(after: Figures, before: Figures) -> float:
    """Return the ratio of both times, each in units of what numpy took meanwhile, because minutes lie between them."""
    return _ratio(after, "nextk churned", "numpy brute kept", "cpu") / _ratio(
        before, "nextk", "numpy brute kept", "cpu"
    )


def _ratio(ways: Figures, one: str, other: str, figure: str) -> float:
    return ways[one][figure] / ways[other][figure]
