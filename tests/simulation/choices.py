"""The choices of a run. Each has a name and depends on the seed and its name alone."""

import random


class Choices:
    """Makes the choices of one run.

    The tests of a single seed could draw from one generator. Then the whole run would change as soon as one fault is
    left out, and a failing run could not be made smaller.

    Args:
        seed: The seed of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def dice(self, *name: object) -> random.Random:
        """Return the generator of one choice, or of some choices that belong together.

        Args:
            name: The name of the choice.
        """
        return random.Random("/".join(map(str, (self.seed, *name))))  # noqa: S311 - a simulation keeps no secrets
