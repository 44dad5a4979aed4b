"""Environment variables that stand for the options of a command, as services and containers set them.

The variable of an option is `NEXTK_` and the name of the option in capitals, with `_` for `-`. An option that is given
as an argument wins, and its variable is not even read. An empty variable counts as not set.
"""

import argparse
import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nextk.errors import ClientError

PREFIX = "NEXTK_"
"""The beginning of the names of all variables."""

_FLAGS = {"1": True, "true": True, "0": False, "false": False}


class Environment:
    """The variables that stand for the options of one parser. Its options must not change any more.

    The parser then leaves out of its result what is not given; `complete` brings it back. `--help` names the variables,
    but never shows their values.

    Args:
        parser: The parser of the command, with all options.
    """

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._options: dict[str, argparse.Action] = {}
        self._defaults: dict[str, Any] = {}
        for option in parser._actions:  # noqa: SLF001 - argparse has no public list of what was added
            if option.dest == "help":
                continue
            self._options[_variable(option)] = option
            self._defaults[option.dest] = option.default
            option.default = argparse.SUPPRESS
            option.help = f"{option.help} [${_variable(option)}]"

    @property
    def variables(self) -> list[str]:
        """The names of the variables, in the order of the options."""
        return list(self._options)

    def complete(self, given: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> argparse.Namespace:
        """Return arguments in which every option has a value: the one given, its variable's, or its default.

        Args:
            given: What the parser has returned.
            environment: The variables by name. Default: those of the process.

        Raises:
            ClientError: The value of a variable does not fit its option; the message names the variable.
        """
        arguments = argparse.Namespace(**{name: copy.copy(value) for name, value in self._defaults.items()})
        for variable, option in self._options.items():
            text = environment.get(variable, "").strip()
            if text and not hasattr(given, option.dest):
                setattr(arguments, option.dest, _read(variable, option, text))
        vars(arguments).update(vars(given))
        return arguments


def _variable(option: argparse.Action) -> str:
    return PREFIX + option.option_strings[-1].lstrip("-").replace("-", "_").upper()


def _read(variable: str, option: argparse.Action, text: str) -> Any:
    """Return the value of an option from the text of its variable."""
    if option.nargs == 0:
        return _flag(variable, text)
    if isinstance(option, argparse._AppendAction):  # noqa: SLF001 - what `action="append"` stands for
        return [_value(variable, option, part) for part in text.split()]
    return _value(variable, option, text)


def _flag(variable: str, text: str) -> bool:
    if text.lower() not in _FLAGS:
        message = f"{variable}: give 1, 0, true or false, not {text!r}"
        raise ClientError(message)
    return _FLAGS[text.lower()]


def _value(variable: str, option: argparse.Action, text: str) -> Any:
    read = option.type if callable(option.type) else str
    try:
        value = read(text)
    except (argparse.ArgumentTypeError, TypeError, ValueError) as error:  # those that argparse takes from a type
        message = f"{variable}: {error}"
        raise ClientError(message) from error
    if option.choices is not None and value not in option.choices:
        message = f"{variable}: give one of {', '.join(map(str, option.choices))}, not {text!r}"
        raise ClientError(message)
    return value.expanduser() if isinstance(value, Path) else value
