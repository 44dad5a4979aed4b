"""Kinds of arguments: what is wrong with one is said before anything runs."""

import argparse
from collections.abc import Callable


def count(least: int = 1, most: int | None = None) -> Callable[[str], int]:
    """A whole number in a range, for `type=`.

    Args:
        least: The smallest.
        most: The largest, if there is one.
    """
    wanted = f"at least {least}" if most is None else f"from {least} to {most:,}"

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least or (most is not None and number > most):
            message = f"give a whole number {wanted}, not {text!r}"
            raise argparse.ArgumentTypeError(message)
        return number

    return read


def question(text: str) -> str:
    """A text that is not blank, for `type=`."""
    if not text.strip():
        message = "the question is blank: say what to look for"
        raise argparse.ArgumentTypeError(message)
    return text
