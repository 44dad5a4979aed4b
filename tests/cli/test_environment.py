"""Options by environment variables: which one wins, how values are read, and what is said about wrong ones."""

import argparse
from pathlib import Path
from typing import Any

import pytest

from nextk.cli import serve
from nextk.cli.arguments import count
from nextk.cli.environment import Environment
from nextk.cli.main import main
from nextk.errors import ClientError
from nextk.server import listening


def read(arguments: list[str], variables: dict[str, str]) -> argparse.Namespace:
    """Read arguments and variables by a parser that has an option of every kind."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--top-k", type=count(), default=4, help="a number")
    parser.add_argument("--name", default="ann", help="a text")
    parser.add_argument("--token", help="a text without a default")
    parser.add_argument("--data", type=Path, help="a path")
    parser.add_argument("--share", type=float, default=0.5, help="a type of Python")
    parser.add_argument("--kind", choices=["dense", "sparse"], default="dense", help="a choice")
    parser.add_argument("--index", action="append", default=[], help="a list")
    parser.add_argument("--quiet", action="store_true", help="a flag")
    return Environment(parser).complete(parser.parse_args(arguments), variables)


DEFAULTS: dict[str, Any] = {
    "top_k": 4,
    "name": "ann",
    "token": None,
    "data": None,
    "share": 0.5,
    "kind": "dense",
    "index": [],
    "quiet": False,
}


@pytest.mark.parametrize(
    ("arguments", "variables", "expected"),
    [
        ([], {}, {}),
        ([], {"NEXTK_TOP_K": "7"}, {"top_k": 7}),
        (["--top-k", "9"], {"NEXTK_TOP_K": "7"}, {"top_k": 9}),
        (["--top-k", "4"], {"NEXTK_TOP_K": "7"}, {"top_k": 4}),
        (["--top-k", "9"], {"NEXTK_TOP_K": "many"}, {"top_k": 9}),
        ([], {"NEXTK_NAME": " two words\n"}, {"name": "two words"}),
        ([], {"NEXTK_NAME": "", "NEXTK_TOP_K": " ", "NEXTK_QUIET": "", "NEXTK_INDEX": "\n"}, {}),
        ([], {"NEXTK_TOKEN": "secret"}, {"token": "secret"}),
        (["--token", ""], {"NEXTK_TOKEN": "secret"}, {"token": ""}),
        ([], {"NEXTK_DATA": "/a folder"}, {"data": Path("/a folder")}),
        ([], {"NEXTK_DATA": "~/x"}, {"data": Path.home() / "x"}),
        ([], {"NEXTK_SHARE": "0.25", "NEXTK_KIND": "sparse"}, {"share": 0.25, "kind": "sparse"}),
        ([], {"NEXTK_INDEX": "a=dense,dimension=2"}, {"index": ["a=dense,dimension=2"]}),
        ([], {"NEXTK_INDEX": " a=dense\n\nb=sparse c=hybrid\t"}, {"index": ["a=dense", "b=sparse", "c=hybrid"]}),
        (["--index", "z=dense"], {"NEXTK_INDEX": "a=dense"}, {"index": ["z=dense"]}),
        ([], {"NEXTK_QUIET": "1"}, {"quiet": True}),
        ([], {"NEXTK_QUIET": "True"}, {"quiet": True}),
        ([], {"NEXTK_QUIET": "0"}, {"quiet": False}),
        (["--quiet"], {"NEXTK_QUIET": "false"}, {"quiet": True}),
        ([], {"NEXTK_OTHER": "x", "TOP_K": "7", "nextk_top_k": "7"}, {}),
    ],
)
def test_an_option_is_its_argument_or_its_variable_or_its_default(
    arguments: list[str], variables: dict[str, str], expected: dict[str, Any]
) -> None:
    """An argument wins over the variable, a variable over the default, and an empty variable is none."""
    assert DEFAULTS | expected == vars(read(arguments, variables))


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("NEXTK_TOP_K", "tcp://10.0.0.1:80", "NEXTK_TOP_K: give a whole number of at least 1, not 'tcp://10.0.0.1:80'"),
        ("NEXTK_QUIET", "yes", "NEXTK_QUIET: give 1, 0, true or false, not 'yes'"),
        ("NEXTK_KIND", "hybrid", "NEXTK_KIND: give one of dense, sparse, not 'hybrid'"),
        ("NEXTK_SHARE", "half", "NEXTK_SHARE: could not convert string to float: 'half'"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(variable: str, text: str, message: str) -> None:
    """The error names the variable, not the option that nobody has given."""
    with pytest.raises(ClientError) as refused:
        read([], {variable: text})
    assert message == str(refused.value)


def test_defaults_are_not_shared() -> None:
    """A list that one run has changed is not the default of the next one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--index", action="append", default=[], help="a list")
    environment = Environment(parser)
    environment.complete(parser.parse_args([]), {}).index.append("a")
    assert [] == environment.complete(parser.parse_args([]), {}).index


def test_every_option_of_the_server_has_its_variable_in_help() -> None:
    """Whatever `nextk serve` takes as an option can be set by environment, and help says by which variable."""
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    shown = parser.format_help()
    variables = parser.get_default("environment").variables
    assert {"NEXTK_TOKEN", "NEXTK_READ_ONLY_TOKEN", "NEXTK_MAX_OPEN_QUERIES", "NEXTK_QUIET"} <= set(variables)
    assert shown.count("\n  --") == len(variables)
    assert all(f"[${variable}]" in shown for variable in variables)


SERVED = {
    "NEXTK_INDEX": "docs=dense,dimension=2\nwords=sparse",
    "NEXTK_PORT": "0",
    "NEXTK_TOKEN": "writer-secret",
    "NEXTK_READ_ONLY_TOKEN": "reader-secret",
    "NEXTK_ROOT": "words",
    "NEXTK_QUIET": "1",
}


def set_all(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    """Let these variables be the only ones of nextk."""
    for variable in ("NEXTK_DATA", "NEXTK_MAX_BODY", *SERVED):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in {**variables, "COLUMNS": "200"}.items():
        monkeypatch.setenv(variable, value)


def test_a_server_is_started_by_variables_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`nextk serve` without arguments does what its variables say, and shows no token."""
    set_all(monkeypatch, SERVED)
    apps: list[Any] = []
    monkeypatch.setattr(listening, "run", lambda app, _listener, _limits: apps.append(app))
    assert 0 == main(["serve"])
    out, err = capsys.readouterr()
    assert "/indexes/docs" in out
    assert "/indexes/words and /" in out
    assert "secret" not in out + err
    assert 1 == len(apps)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("NEXTK_MAX_BODY", "0", "nextk: NEXTK_MAX_BODY: give a whole number of at least 1, not '0'"),
        ("NEXTK_READ_ONLY_TOKEN", "writer-secret", "the read-only token must differ"),
    ],
)
def test_a_server_with_a_wrong_variable_does_not_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str, message: str
) -> None:
    """A wrong variable ends `nextk serve` with the exit code of a wrong argument and one line without secrets."""
    set_all(monkeypatch, {**SERVED, variable: value})
    assert 2 == main(["serve"])
    out, err = capsys.readouterr()
    assert message in err
    assert 1 == err.count("\n")
    assert "secret" not in out + err
