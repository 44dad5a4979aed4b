"""Run many seeds by hand: `python -m tests.simulation --seeds 2000 [--first N]`, with `integrations` on the path.

A run that fails is made smaller, and shown: its plan, what was wrong, and its trace. `--trace` shows every run.
"""

import argparse
import logging
import sys
import time
from collections import Counter

from tests.simulation.shrink import smallest
from tests.simulation.world import Run, command_of, run

_WIDTH = 240  # characters of a line of a trace
_EVERY = 100  # seeds, between two lines about the progress


def main(arguments: list[str]) -> int:
    """Run the seeds, and return the number of those that fail.

    Args:
        arguments: The arguments of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2_000, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--trace", action="store_true", help="show the trace of every run")
    chosen = parser.parse_args(arguments)
    logging.disable(logging.WARNING)  # the sessions warn that the data has changed
    counts: Counter[str] = Counter()
    failing: list[int] = []
    began = time.process_time()
    for done, seed in enumerate(range(chosen.first, chosen.first + chosen.seeds), start=1):
        this = run(seed)
        counts += this.trace.counts
        if this.failures:
            failing.append(seed)
            _show(smallest(this))
        elif chosen.trace:
            _show(this)
        if done % _EVERY == 0 or done == chosen.seeds:
            seconds = time.process_time() - began
            print(f"{done} of {chosen.seeds} seeds, {seconds:.0f} s of CPU, {len(failing)} failed", flush=True)
    print(*(f"{count:8}  {kind}" for kind, count in sorted(counts.items())), sep="\n")
    if failing:
        print(f"failed: {failing}. Each is run again by, for example, {command_of(failing[0])}")
    return len(failing)


def _show(this: Run) -> None:
    print(f"\nseed {this.seed}, run by: {command_of(this.seed)}", this.plan, *this.failures, sep="\n")
    print("faults:", ", ".join(this.struck) or "none")
    print(*(line[:_WIDTH] for line in this.trace.lines()), "", sep="\n")


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1:])))
