"""Pieces of Python, run in processes of their own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nextk

ROOT = str(Path(nextk.__file__).parents[1])
_REPOSITORY = str(Path(__file__).parents[2])

REPOSITORY_PATH = {**os.environ, "PYTHONPATH": os.pathsep.join([ROOT, _REPOSITORY])}
"""The environment of a process that may import nextk and these tests."""


def python(code: str, *arguments: object, under: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Start a piece of code, which may import nextk and the helpers of these tests; its streams are pipes.

    Args:
        code: The code.
        arguments: What it finds in `sys.argv`.
        under: The command that starts the interpreter, such as `unshare`. Default: none.
    """
    return subprocess.Popen(  # noqa: S603 - our own interpreter and code
        [*under, sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        env=REPOSITORY_PATH,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(code: str, *arguments: object, under: Sequence[str] = ()) -> str:
    """What a piece of code prints; it must succeed."""
    with python(code, *arguments, under=under) as process:
        printed, complaints = process.communicate()
    assert 0 == process.returncode, complaints
    return printed.strip()
