"""Schemathesis run as a command over the description of a server, so that none of its own parts is in this process."""

import subprocess
import sys
from pathlib import Path

_SETTINGS = """\
# An index may refuse data that fit the description: for their dimension, their filter, or a model that it lacks.
checks.positive_data_acceptance.enabled = false

# A body of /delete that is not JSON is an id, whatever its declared type, since older clients send one so.
[[operations]]
include-path-regex = "^/delete(/|$)"
checks.negative_data_rejection.enabled = false
"""


def violations(
    url: str, folder: Path, *, token: str | None, examples: int, phases: str, options: tuple[str, ...] = ()
) -> str:
    """Send a server what its description allows and what it does not, and compare the replies with the description.

    The inputs are the same each time.

    Args:
        url: The base URL of the server.
        folder: An empty folder for what Schemathesis writes.
        token: The token to send, or `None`.
        examples: The number of examples for each operation in the phases of random data.
        phases: The phases to run, joined by commas.
        options: Further options of the command.

    Returns:
        The report, or `""` if every reply was as described.
    """
    (folder / "schemathesis.toml").write_text(_SETTINGS, encoding="utf-8")
    header = [] if token is None else ["--header", f"Authorization: Bearer {token}"]
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--url", url, *header]
    command += ["--phases", phases, "--max-examples", str(examples)]
    command += ["--generation-deterministic", "--suppress-health-check", "all", "--warnings", "off", "--no-color"]
    run = subprocess.run([*command, *options], cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    return "" if run.returncode == 0 else f"{run.stdout}\n{run.stderr}"
