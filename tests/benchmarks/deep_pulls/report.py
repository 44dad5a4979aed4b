"""The tables of a run, for the terminal and for README."""

from collections.abc import Mapping
from typing import Any

from tests.benchmarks.deep_pulls import targets
from tests.benchmarks.deep_pulls.targets import Result


def print_result(result: Result) -> None:
    """Print all figures of a corpus."""
    print(f"\n## {result['corpus']}, {result['questions']} questions; ms, medians: CPU (wall)")
    if result["left_out"]:
        print(f"left out, because they are not installed: {', '.join(result['left_out'])}")
    _print_ways(result["ways"])
    for name, ways in result["patterns"].items():
        _print_table(f"dense {name}", ways)
    for name, ways in result["modes"].items():
        _print_table(name, ways)
    _print_table("dense P1, share that passes", result["filtered"])
    _print_table("dense P1 after writes", result["churned"])


def print_targets(results: list[Result]) -> None:
    """Print all targets of all corpora, and whether they are met."""
    for result in results:
        rows = result["rows"]
        print(f"\n{'targets, ' + result['corpus']:56}{'measured':>10}{'target':>10}")
        for name, target, figure in targets.figures(result):
            limit = target.limit(rows)
            bound = "" if limit is None else f"{'>=' if target.at_least else '<='} {limit:g}"
            verdict = "" if limit is None else "met" if target.is_met(figure, rows) else "NOT MET"
            print(f"{name:56}{figure:10.4f}{bound:>10}  {verdict}")


def print_markdown(results: list[Result]) -> None:
    """Print the tables of README: nextk by size, and all ways of the largest corpus that has peers."""
    print(
        "\n| records | first page: pool | exact | ten pages of ten: pool | exact | ten and nine pages of 100: pool",
        end="",
    )
    print(" | exact | late rows |\n| --- | --- | --- | --- | --- | --- | --- | --- |")
    for result in results:
        pages, deep = result["patterns"]["P1"], result["patterns"]["P2"]
        times = [
            f"{ways[name][figure]:.1f} ms"
            for ways, figure in ((pages, "first_cpu"), (pages, "cpu"), (deep, "cpu"))
            for name in ("nextk", "nextk exact")
        ]
        late = f"{deep['nextk']['late']:,.0f} of {910 * result['questions']:,}"
        print(f"| {' | '.join([result['corpus'], *times, late])} |")
    for result in results:
        if "hnswlib over-fetching" in result["ways"]:
            _print_peers(result)


def _print_peers(result: Result) -> None:
    print(f"\n| {result['corpus']} | build | first page | P1 | recall, worst | P2 | recall, worst |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, price in result["ways"].items():
        pages, deep = result["patterns"]["P1"][name], result["patterns"]["P2"][name]
        build = f"{price['build_seconds']:.1f} s" if price["build_seconds"] else "none"
        cells = [f"{pages['first_cpu']:.1f} ms"]
        for ways in (pages, deep):
            cells += [f"{ways['cpu']:.1f} ms", f"{ways['recall']:.4f}, {ways['recall_worst']:.2f}"]
        print(f"| {' | '.join([name, build, *cells])} |")


def _print_ways(ways: Mapping[str, Mapping[str, Any]]) -> None:
    print(f"\n{'':28}{'build CPU s':>13}{'open CPU s':>12}{'bytes/row':>12}{'bytes/search':>14}")
    for name, way in ways.items():
        opened = way.get("open_seconds")
        row = "-" if way["bytes_per_row"] is None else f"{way['bytes_per_row']:,.0f}"
        print(
            f"{name:28}{way['build_seconds']:13.1f}{'-' if opened is None else f'{opened:.2f}':>12}{row:>12}"
            f"{way['bytes_per_search']:14,.0f}"
        )


def _print_table(title: str, ways: Mapping[str, Mapping[str, float]]) -> None:
    print(f"\n{title:28}{'first':>18}{'all':>20}{'recall first':>17}{'recall end':>17}{'late':>7}{'twice':>7}")
    for name, way in ways.items():
        first, every = (
            f"{way[cpu]:.2f} ({way[wall]:.2f})" for cpu, wall in (("first_cpu", "first_wall"), ("cpu", "wall"))
        )
        early = f"{way['first_recall']:.4f}, {way['first_recall_worst']:.2f}"
        end = f"{way['recall']:.4f}, {way['recall_worst']:.2f}"
        twice = way["duplicates"]
        print(f"{name:28}{first:>18}{every:>20}{early:>17}{end:>17}{way['late']:7.0f}{twice:7.0f}")
