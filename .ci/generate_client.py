"""Generate the blocking client, `client.py` and `client_records.py`, from the asynchronous one.

    python .ci/generate_client.py            write the files of the blocking client
    python .ci/generate_client.py --check    fail if they are not what would be written

A substitution that no longer occurs in the asynchronous files is an error in both cases, so that the table cannot rot.
The result is not formatted any further: write the sources so that `ruff format` leaves all files as they are.
"""

import argparse
import ast
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "integrations" / "nextk"
TARGETS: Mapping[str, str] = {"async_client.py": "client.py", "async_client_records.py": "client_records.py"}
"""The file of the blocking client that is generated from each file of the asynchronous one."""

HEADER = "# Generated from {0} by `python .ci/generate_client.py`. Do not edit: change that file and run it.\n"

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
    "AsyncRecordClient": "RecordClient",
    "nextk.async_client_records": "nextk.client_records",
    "nextk.AsyncIndex": "nextk.Index",
    "to_sync": "to_async",
    "from nextk.client import Index": "from nextk.async_client import AsyncIndex",
    '-> "Index"': '-> "AsyncIndex"',
    "return Index._over": "return AsyncIndex._over",
    # Prose.
    "The asynchronous client": "The blocking client",
    "of the asynchronous client": "of the blocking client",
    " of Upstash Vector with `await`": " of Upstash Vector",
    "`.ci/generate_client.py` makes `nextk.client` of this file, so change only this one.": (
        "`nextk.async_client` has the same client with `await`."
    ),
    "`.ci/generate_client.py` makes `nextk.client_records` of this file, so change only this one.": (
        "`nextk.async_client_records` has the same calls with `await`."
    ),
    "whose calls never block the event loop. It may be used from several event loops": (
        "whose calls block until the answer is there. It may be used from several threads"
    ),
    "Return a blocking client": "Return an asynchronous client",
}


class GenerationError(Exception):
    """The blocking client cannot be generated; the message says why."""


def generate(sources: Mapping[str, str], substitutions: Mapping[str, str] = SUBSTITUTIONS) -> dict[str, str]:
    """Turn the texts of the asynchronous client into those of the blocking one.

    Args:
        sources: The texts of the files of the asynchronous client, by the names in `TARGETS`.
        substitutions: The texts to replace, and what replaces each. They are matched as whole words.

    Returns:
        The texts of the files of the blocking client, by their names.

    Raises:
        GenerationError: A substitution occurs in no source, or a result still has asynchronous code.
    """
    unused = set(substitutions)

    def replacement(found: re.Match[str]) -> str:
        unused.discard(found[0])
        return substitutions[found[0]]

    longest_first = sorted(substitutions, key=len, reverse=True)
    pattern = "|".join(map(_whole_words, longest_first))
    results = {
        TARGETS[name]: HEADER.format(name) + re.sub(pattern, replacement, source) for name, source in sources.items()
    }
    if unused:
        message = (
            f"{' and '.join(sources)} no longer contain {', '.join(map(repr, sorted(unused)))}: mend SUBSTITUTIONS"
        )
        raise GenerationError(message)
    for target, result in results.items():
        _require_blocking(target, result)
    return results


def _require_blocking(target: str, result: str) -> None:
    """Raise `GenerationError` if the text of a file of the blocking client has asynchronous code."""
    asynchronous = ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith | ast.Await
    for node in ast.walk(ast.parse(result)):
        if isinstance(node, asynchronous):
            message = f"line {node.lineno} of {target} would still be asynchronous: add a substitution"
            raise GenerationError(message)


def _whole_words(text: str) -> str:
    """A pattern for a text that is no part of a longer word."""
    before, after = (r"(?<!\w)" if text[0].isidentifier() else ""), (r"(?!\w)" if text[-1].isidentifier() else "")
    return before + re.escape(text) + after


def main(arguments: Sequence[str] | None = None, package: Path = PACKAGE) -> int:
    """Write the blocking client, or check it.

    Args:
        arguments: The command line without the program's name; `None` takes that of the process.
        package: The folder that has the files of both clients.

    Returns:
        0 if the blocking client is as it should be, else 1.
    """
    parser = argparse.ArgumentParser(description="Generate the blocking client from the asynchronous one.")
    parser.add_argument("--check", action="store_true", help="write nothing, and fail if a file is out of date")
    check = parser.parse_args(arguments).check
    try:
        results = generate({name: (package / name).read_text(encoding="utf-8") for name in TARGETS})
    except GenerationError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    outdated = 0
    for name, expected in results.items():
        target = package / name
        if not check:
            target.write_text(expected, encoding="utf-8")
        elif not target.exists() or target.read_text(encoding="utf-8") != expected:
            sys.stderr.write(f"{name} is out of date. Run: python .ci/generate_client.py\n")
            outdated += 1
    return 1 if outdated else 0


if __name__ == "__main__":
    sys.exit(main())
