"""Make a failing run smaller: leave out every fault without which it fails as well."""

from collections.abc import Sequence

from tests.simulation.world import Run, run

_ATTEMPTS = 200


def smallest(failing: Run) -> Run:
    """Return a run of the same seed that fails with as few faults as can be found.

    Args:
        failing: The run.
    """
    spared: set[str] = set()
    left, size = _ATTEMPTS, max(1, len(failing.struck) // 2)
    while left > 0:
        smaller = None
        for part in _parts(failing.struck, size):
            left -= 1
            attempt = run(failing.seed, spared | set(part))
            if attempt.failures:
                smaller = attempt
                spared |= set(part)
                break
        if smaller is not None:
            failing = smaller
        elif size == 1:
            break
        size = max(1, min(size if smaller is not None else size // 2, len(failing.struck) // 2))
        if not failing.struck:
            break
    return failing


def _parts(names: Sequence[str], size: int) -> list[Sequence[str]]:
    return [names[start : start + size] for start in range(0, len(names), size)]
