"""The time of a transport: by which clock it bounds its work, and how it waits before it repeats a request."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pacing:
    """The functions by which a transport measures time and waits. A simulation of many clients replaces them.

    Attributes:
        clock: A function that returns the time in seconds. Default `time.monotonic`.
        sleep: A function that waits for some seconds in a blocking call. Default `time.sleep`. Asynchronous calls wait
            by the clock of their event loop.
        chance: A function that returns a random number from 0 to 1, for the jitter of a pause. Default `random.random`.
    """

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random


REAL = Pacing()
"""Real time and real chance."""
