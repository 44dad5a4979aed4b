"""The Dockerfile: its command line is one of `nextk serve`, and its check tells a server that is up from none."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nextk.cli.main import build_parser
from tests.support.local_server import LocalServer
from tests.support.scripted_server import unused_url

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / ".github" / "Dockerfile").read_text(encoding="utf-8")


def command_of(instruction: str) -> list[str]:
    """The command of an instruction, which is the list at the end of its line."""
    found = re.search(rf"^{instruction}\b[^\[]*(\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert found, instruction
    return [str(part) for part in json.loads(found[1])]


def test_the_command_line_is_understood() -> None:
    """The container starts `nextk serve` with options that exist, on the exposed port, and not as root."""
    program, *arguments = command_of("ENTRYPOINT")
    parsed = build_parser().parse_args(arguments)
    assert ("nextk", "0.0.0.0", 8080) == (program, parsed.host, parsed.port)  # noqa: S104 - of the container
    assert "EXPOSE 8080\n" in DOCKERFILE
    variables = set(re.findall(r"^ENV (\w+)=", DOCKERFILE, re.MULTILINE))
    assert variables <= set(parsed.environment.variables)
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE)[-1] not in ("0", "root")


def test_what_is_copied_exists() -> None:
    """The files of the build are in the repository, and are not kept from it."""
    copied = [name for line in re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()]
    assert copied
    ignored = (ROOT / ".github" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}" in ignored


@pytest.mark.parametrize("up", [True, False])
def test_the_check_tells_whether_the_server_is_up(up: bool) -> None:
    """The container is healthy if and only if the server answers, whatever proxy the environment names."""
    program, *arguments = command_of("HEALTHCHECK")
    assert "python" == program
    with LocalServer() as server:
        url = server.url if up else unused_url()
        command = [sys.executable, *(argument.replace("8080", url.rpartition(":")[2]) for argument in arguments)]
        environment = {"http_proxy": "http://127.0.0.1:1"}
        ended = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60)  # noqa: S603
    assert up == (ended.returncode == 0)
