"""Pull ever deeper from one search, on nextk and on its peers, in one run.

Run by hand from the repository: `python -m tests.benchmarks.deep_pulls --rows 10000 100000`. P1 is a page of 10 and
nine more of 10, P2 a page of 10 and nine of 100, P3 a fifth of all rows in pulls of at most 1,000. Every way answers
the same questions in turn, with one thread. Recall is the share of the rows that are nearest by float64 products; that
of sparse and hybrid searches is the share of what one query brings at once. Ratios within one run are what to look at.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.deep_pulls import corpora, report
from tests.benchmarks.deep_pulls.embedded import MODES, EmbeddedIndex
from tests.benchmarks.deep_pulls.measuring import Case, best_rows, bytes_per_search, compare, patterns
from tests.benchmarks.deep_pulls.peers import brute_force, peers
from tests.benchmarks.deep_pulls.ways import Way

_LONG = 6  # questions that are drained to a fifth of all rows, which takes long

SHARES = {"100 %": 1_000, "10 %": 100, "1 %": 10, ".1 %": 1, "0 %": 0}
"""The share of the rows that pass a filter, and the number of parts that it lets through."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="deep_pulls", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000], help="sizes of the clustered data")
    parser.add_argument("--dimension", type=int, default=384, help="dimension of the clustered data")
    parser.add_argument("--texts", type=int, nargs="*", default=[], help="sizes of the real text")
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--json", type=Path, help="a file for all figures")
    parser.add_argument("--picture", type=Path, help="a file for a picture of the times")
    return parser.parse_args()


def measure(corpus: corpora.Corpus, *, with_peers: bool) -> report.Result:
    """Measure everything on one corpus.

    Returns:
        `ways`, the price of each way; `patterns`, dense searches by pattern and way; `modes`, searches of nextk by
        pattern and mode; `filtered`, P1 by the share that passes; `churned`, P1 with and without writes before.
    """
    left_out: list[str] = []
    with tempfile.TemporaryDirectory() as folder, EmbeddedIndex(corpus, Path(folder) / "index") as embedded:
        found = peers(corpus, Path(folder), left_out) if with_peers else ()
        ways = [embedded.way(), brute_force(corpus), *found]
        return {
            "corpus": corpus.name,
            "rows": len(corpus),
            "questions": len(corpus.questions),
            "left_out": left_out,
            "ways": _prices(corpus, ways, embedded),
            "patterns": _patterns(corpus, ways),
            "modes": {name: _modes(corpus, embedded, name) for name in ("P1", "P2")},
            "filtered": _filtered(corpus, embedded),
            "churned": _churned(corpus, embedded, Path(folder) / "churned"),
        }


def _prices(corpus: corpora.Corpus, ways: Sequence[Way], embedded: EmbeddedIndex) -> dict[str, Any]:
    prices: dict[str, dict[str, Any]] = {
        way.name: {
            "build_seconds": way.build_seconds,
            "bytes_per_row": way.bytes_per_row,
            "bytes_per_search": bytes_per_search(way, corpus.questions),
        }
        for way in ways
    }
    prices["nextk"] |= embedded.figures
    return prices


def _patterns(corpus: corpora.Corpus, ways: Sequence[Way]) -> dict[str, Any]:
    truth = _nearest(corpus, len(corpus) // 5)
    cases = [Case(way, truth) for way in ways]
    few = {"P3": corpus.questions[:6]}
    return {
        name: compare(cases, few.get(name, corpus.questions), sizes) for name, sizes in patterns(len(corpus)).items()
    }


def _nearest(corpus: corpora.Corpus, count: int, parts: int = corpora.PARTS) -> list[NDArray[np.int64]]:
    allowed = np.flatnonzero(corpus.parts < parts)
    return [best_rows(corpus, question, count, allowed) for question in corpus.questions]


def _modes(corpus: corpora.Corpus, embedded: EmbeddedIndex, pattern: str) -> dict[str, Any]:
    sizes = patterns(len(corpus))[pattern]
    cases = [
        Case(
            embedded.way(mode, name=f"nextk {mode}"),
            [embedded.best(mode, question, sum(sizes)) for question in corpus.questions],
        )
        for mode in MODES
    ]
    return compare(cases, corpus.questions, sizes)


def _filtered(corpus: corpora.Corpus, embedded: EmbeddedIndex) -> dict[str, Any]:
    sizes = patterns(len(corpus))["P1"]
    cases = [Case(embedded.way(name="nextk unfiltered"), _nearest(corpus, sum(sizes)))]
    for share, parts in SHARES.items():
        allowed, truth = np.flatnonzero(corpus.parts < parts), _nearest(corpus, sum(sizes), parts)
        cases.append(Case(embedded.way(filter=f"part < {parts}", name=f"nextk {share}"), truth))
        cases.append(Case(brute_force(corpus, allowed, name=f"numpy {share}"), truth))
    return compare(cases, corpus.questions, sizes)


def _churned(corpus: corpora.Corpus, embedded: EmbeddedIndex, path: Path) -> dict[str, Any]:
    sizes = patterns(len(corpus))["P1"]
    truth = _nearest(corpus, sum(sizes))
    with EmbeddedIndex(corpus, path, churned=True) as churned:
        ways = [embedded.way(name="nextk as written"), churned.way(name="nextk churned")]
        return compare([Case(way, truth) for way in ways], corpus.questions, sizes)


def _corpora(options: argparse.Namespace) -> Iterator[corpora.Corpus]:
    for rows in options.rows:
        yield corpora.clustered(rows, options.dimension, options.questions)
    for rows in options.texts:
        yield corpora.texts(rows, options.questions)


def main() -> None:
    """Measure, print, and write the files that are asked for."""
    options = arguments()
    results = []
    for corpus in _corpora(options):
        results.append(measure(corpus, with_peers=options.peers))
        report.print_result(results[-1])
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    if options.picture:
        print(report.draw(results, options.picture))


if __name__ == "__main__":
    main()
