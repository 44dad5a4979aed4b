"""Writers that come in every pause of long work under the lock of an engine."""

import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from nextk.engine import parts


def act_in_pauses(patch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Make every part of long work release the lock, and do something in every pause.

    Args:
        patch: That by which the pauses are changed.
        act: Called in every pause.
    """
    patch.setattr(parts, "_HELD", 0.0)
    patch.setattr(parts, "time", SimpleNamespace(perf_counter=time.perf_counter, sleep=lambda _seconds: act()))
