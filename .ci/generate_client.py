"""Generate the blocking client, `client.py`, from the asynchronous one, `async_client.py`.

    python .ci/generate_client.py            write client.py
    python .ci/generate_client.py --check    fail if client.py is not what would be written

A substitution that no longer occurs in `async_client.py` is an error in both cases, so that the table cannot rot. The
result is not formatted any further: write `async_client.py` so that `ruff format` leaves both files as they are.
"""

import argparse
import ast
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "integrations" / "nextk"
SOURCE, TARGET = "async_client.py", "client.py"

HEADER = f"# Generated from {SOURCE} by `python .ci/generate_client.py`. Do not edit: change {SOURCE} and run it.\n"

SUBSTITUTIONS: Mapping[str, str] = {
    # Code. All are replaced in one pass, so two names can change places.
    "async def ": "def ",
    "await ": "",
    "asend": "send",
    "abackup": "backup",
    "aclose": "close",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "AsyncResumableQueryHandle": "ResumableQueryHandle",
    "class AsyncIndex": "class Index",
    "to_sync": "to_async",
    "from nextk.client import Index": "from nextk.async_client import AsyncIndex",
    '-> "Index"': '-> "AsyncIndex"',
    "return Index._over": "return AsyncIndex._over",
    # Prose.
    "The asynchronous client": "The blocking client",
    " of Upstash Vector with `await`": " of Upstash Vector",
    "`.ci/generate_client.py` makes `nextk.client` of this file, so change only this one.": (
        "`nextk.async_client` has the same client with `await`."
    ),
    "whose calls never block the event loop. It may be used from several event loops": (
        "whose calls block until the answer is there. It may be used from several threads"
    ),
    "Return a blocking client": "Return an asynchronous client",
}


class GenerationError(Exception):
    """The blocking client cannot be generated; the message says why."""


def generate(source: str, substitutions: Mapping[str, str] = SUBSTITUTIONS) -> str:
    """Turn the text of the asynchronous client into that of the blocking one.

    Args:
        source: The text of `async_client.py`.
        substitutions: The texts to replace, and what replaces each. They are matched as whole words.

    Returns:
        The text of `client.py`.

    Raises:
        GenerationError: A substitution does not occur in the source, or the result still has asynchronous code.
    """
    unused = set(substitutions)

    def replacement(found: re.Match[str]) -> str:
        unused.discard(found[0])
        return substitutions[found[0]]

    longest_first = sorted(substitutions, key=len, reverse=True)
    pattern = "|".join(map(_whole_words, longest_first))
    result = HEADER + re.sub(pattern, replacement, source)
    if unused:
        message = f"{SOURCE} no longer contains {', '.join(map(repr, sorted(unused)))}: mend SUBSTITUTIONS"
        raise GenerationError(message)
    asynchronous = ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith | ast.Await
    for node in ast.walk(ast.parse(result)):
        if isinstance(node, asynchronous):
            message = f"line {node.lineno} of {TARGET} would still be asynchronous: add a substitution"
            raise GenerationError(message)
    return result


def _whole_words(text: str) -> str:
    """A pattern for a text that is no part of a longer word."""
    before, after = (r"(?<!\w)" if text[0].isidentifier() else ""), (r"(?!\w)" if text[-1].isidentifier() else "")
    return before + re.escape(text) + after


def main(arguments: Sequence[str] | None = None, package: Path = PACKAGE) -> int:
    """Write the blocking client, or check it.

    Args:
        arguments: The command line without the program's name; `None` takes that of the process.
        package: The folder that has both files.

    Returns:
        0 if `client.py` is as it should be, else 1.
    """
    parser = argparse.ArgumentParser(description="Generate the blocking client from the asynchronous one.")
    parser.add_argument("--check", action="store_true", help="write nothing, and fail if client.py is out of date")
    check = parser.parse_args(arguments).check
    target = package / TARGET
    try:
        expected = generate((package / SOURCE).read_text(encoding="utf-8"))
    except GenerationError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if not check:
        target.write_text(expected, encoding="utf-8")
    elif not target.exists() or target.read_text(encoding="utf-8") != expected:
        sys.stderr.write(f"{target.name} is out of date. Run: python .ci/generate_client.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
