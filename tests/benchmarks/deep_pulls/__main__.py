"""Pull ever deeper from one search, on nextk and on its peers, in one run.

Run by hand from the repository: `python -m tests.benchmarks.deep_pulls --rows 10000 32768 100000`. P1 is a page of 10
and nine more of 10, P2 a page of 10 and nine of 100. Every way answers the same questions in turn, with one thread.
Recall is the share of the rows that are nearest by float64 products; that of sparse and hybrid searches is the share of
what one exact query brings. A late row comes after one with a lower score. Ratios within one run are what to look at.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.deep_pulls import corpora, passages, picture, report
from tests.benchmarks.deep_pulls.embedded import MODES, EmbeddedIndex
from tests.benchmarks.deep_pulls.measuring import DEEPEST, PATTERNS, Case, best_rows, bytes_per_search, compare
from tests.benchmarks.deep_pulls.peers import PACKAGES, brute_force, peers
from tests.benchmarks.deep_pulls.targets import Result
from tests.benchmarks.deep_pulls.ways import Way

SHARES = {"100 %": 1_000, "10 %": 100, "1 %": 10, ".1 %": 1}
"""The share of the rows that pass a filter, and the number of parts that it lets through."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="deep_pulls", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 32_768, 100_000], help="sizes of made rows")
    parser.add_argument("--dimension", type=int, default=384, help="dimension of the made rows")
    parser.add_argument("--texts", type=int, nargs="*", default=[], help="sizes of sentences by the static model")
    parser.add_argument("--passages", type=Path, help="a folder that deep_pulls.passages has filled")
    parser.add_argument("--questions", type=int, default=30)
    parser.add_argument("--peers", nargs="*", choices=PACKAGES, default=list(PACKAGES), help="default: all of them")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    parser.add_argument("--picture", type=Path, help="an SVG or PNG file for a picture of the made rows by size")
    parser.add_argument("--from-json", type=Path, nargs="*", default=[], help="files of earlier runs to print again")
    return parser.parse_args()


def measure(corpus: corpora.Corpus, names: Sequence[str]) -> Result:
    """Measure everything on one corpus.

    Returns:
        `ways`, the price of each way; `patterns`, dense searches by pattern and way; `modes`, searches of nextk by
        pattern and mode; `filtered`, P1 by the share that passes; `churned`, P1 after writes, beside numpy.
    """
    left_out: list[str] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        embedded = stack.enter_context(EmbeddedIndex(corpus, folder / "index"))
        own = [embedded.way(), embedded.way(name="nextk exact", exact=True), brute_force(corpus)]
        ways = [*own, *peers(corpus, folder, names, left_out, stack)]
        truth = [best_rows(corpus, question, DEEPEST, None) for question in corpus.questions]
        for question in corpus.questions:
            embedded.best("dense", question, DEEPEST)  # or else the first way in turn reads all records from the file
        result = {
            "corpus": corpus.name,
            "rows": len(corpus),
            "questions": len(corpus.questions),
            "left_out": left_out,
            "ways": _prices(corpus, ways, embedded),
            "patterns": {
                name: compare([Case(way, truth, corpus.vectors) for way in ways], corpus.questions, sizes)
                for name, sizes in PATTERNS.items()
            },
            "modes": {name: _modes(corpus, embedded, name) for name in PATTERNS},
            "filtered": _filtered(corpus, embedded),
        }
        embedded.churn()
        churned = [embedded.way(name="nextk churned"), brute_force(corpus)]
        cases = [Case(way, truth) for way in churned]
        return result | {"churned": compare(cases, corpus.questions, PATTERNS["P1"])}


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


def _modes(corpus: corpora.Corpus, embedded: EmbeddedIndex, pattern: str) -> dict[str, Any]:
    sizes = PATTERNS[pattern]
    cases = [
        Case(
            embedded.way(mode, name=f"nextk {mode}"),
            [embedded.best(mode, question, sum(sizes)) for question in corpus.questions],
        )
        for mode in MODES
    ]
    return compare(cases, corpus.questions, sizes)


def _filtered(corpus: corpora.Corpus, embedded: EmbeddedIndex) -> dict[str, Any]:
    sizes = PATTERNS["P1"]
    cases = [Case(embedded.way(name="nextk unfiltered"), _nearest(corpus, None, sum(sizes)))]
    for share, parts in SHARES.items():
        allowed = np.flatnonzero(corpus.parts < parts)
        truth = _nearest(corpus, allowed, sum(sizes))
        cases.append(Case(embedded.way(filter=f"part < {parts}", name=f"nextk {share}"), truth))
        cases.append(Case(brute_force(corpus, allowed, name=f"numpy {share}"), truth))
    return compare(cases, corpus.questions, sizes)


def _nearest(corpus: corpora.Corpus, allowed: NDArray[np.int64] | None, count: int) -> list[NDArray[np.int64]]:
    return [best_rows(corpus, question, count, allowed) for question in corpus.questions]


def _corpora(options: argparse.Namespace) -> Iterator[corpora.Corpus]:
    if options.from_json:
        return
    for rows in options.rows:
        yield corpora.clustered(rows, options.dimension, options.questions)
    for rows in options.texts:
        yield corpora.texts(rows, options.questions)
    if options.passages:
        yield passages.read(options.passages, options.questions)


def main() -> None:
    """Measure, print, and write the files that are asked for, after every corpus, so that a fault loses none."""
    options = arguments()
    results: list[Result] = [
        result for path in options.from_json for result in json.loads(path.read_text(encoding="utf-8"))
    ]
    for corpus in _corpora(options):
        results.append(measure(corpus, options.peers))
        report.print_result(results[-1])
        if options.json:
            options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    report.print_targets(results)
    report.print_markdown(results)
    if options.picture:
        picture.draw(results, options.picture)
        print(f"\npicture in {options.picture}")


if __name__ == "__main__":
    main()
