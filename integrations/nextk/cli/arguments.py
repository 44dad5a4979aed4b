"""Types of command-line arguments. A value that does not fit is refused before the command runs."""

import argparse
from collections.abc import Callable


def count(minimum: int = 1, maximum: int | None = None) -> Callable[[str], int]:
    """Make a reader of whole numbers, to pass to argparse as `type=`.

    Args:
        minimum: The smallest number that is allowed.
        maximum: The largest number that is allowed. Default `None`, for no limit.

    Returns:
        A function that reads a text as a number, or raises `argparse.ArgumentTypeError`.
    """

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = minimum - 1
        if number < minimum or (maximum is not None and number > maximum):
            upper = "" if maximum is None else f" and at most {maximum}"
            message = f"give a whole number of at least {minimum}{upper}, not {text!r}"
            raise argparse.ArgumentTypeError(message)
        return number

    return read


def question(text: str) -> str:
    """Return a text if it is more than whitespace, to pass to argparse as `type=`.

    Raises:
        argparse.ArgumentTypeError: The text is empty or only whitespace.
    """
    if not text.strip():
        message = "the question is blank: say what to look for"
        raise argparse.ArgumentTypeError(message)
    return text
