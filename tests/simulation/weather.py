"""The weather: which faults hit a message on its way to the server and back."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from tests.simulation.choices import Choices


class Mishap(Enum):
    """Something that happens to one message."""

    LOST_REQUEST = "request lost"
    """The request never arrives; the connection breaks, or the client waits until its time is up."""
    LOST_REPLY = "reply lost"
    """The request is answered, and the reply never arrives."""
    LATE_REQUEST = "request late"
    """The request arrives when its client has given it up, and has perhaps sent others."""
    LATE_REPLY = "reply late"
    """The reply comes when its client has given the request up."""
    REPEATED = "request repeated"
    """The request arrives twice. Its client gets the reply to the first one."""
    REFUSED = "connection refused"
    """No connection is made."""
    GATEWAY = "gateway's page"
    """The request is answered, and a gateway sends a page of its own in place of the reply."""
    CUT = "reply cut"
    """The request is answered, and the reply is cut in the middle."""


LATE = 60.0
"""Seconds by which a message is late at most."""


@dataclass(frozen=True)
class Fate:
    """The fate of one message.

    Attributes:
        arrivals: The seconds until each copy of the request arrives at the server.
        reply: The seconds from the first arrival until the reply comes; `None` if it never does.
        breaks: The seconds after which the client sees its connection break; `None` if it does not.
        mishap: What happens to the message; `None` for nothing.
    """

    arrivals: tuple[float, ...]
    reply: float | None
    breaks: float | None = None
    mishap: Mishap | None = None


class Weather:
    """Decides the fate of each message.

    Args:
        choices: The choices of the run.
        risks: The probability of each mishap.
        spared: The names of the messages to which nothing happens.

    Attributes:
        struck: The names of the messages to which something has happened.
        calm: Whether nothing happens for the time being.
    """

    def __init__(self, choices: Choices, risks: Mapping[Mishap, float], spared: Collection[str]) -> None:
        self._choices = choices
        self._risks = risks
        self._spared = spared
        self.struck: list[str] = []
        self.calm = False

    def fate(self, name: str, timeout: float, *, repeatable: bool) -> Fate:
        """Return the fate of a message.

        Args:
            name: The name of the message, which no other one has.
            timeout: The seconds for which its client waits.
            repeatable: Whether it may arrive twice, or after its connection broke. The pages of a server that does not
                number them may not: a session takes a request for lost whose connection broke, and one that arrives
                nevertheless takes a page that nobody gets. It may arrive after its client has waited for long enough.
        """
        dice = self._choices.dice("message", name)
        fate = Fate((dice.uniform(0.001, 0.2),), dice.uniform(0.001, 0.2))
        throw = dice.random()
        if name in self._spared or self.calm:
            return fate
        for mishap, risk in self._risks.items():
            throw -= risk
            if throw < 0:
                if mishap is Mishap.REPEATED and not repeatable:
                    return fate
                self.struck.append(name)
                late = timeout + dice.uniform(0.1, dice.choice([2.0, 10.0, LATE]))
                breaks = dice.choice([None, dice.uniform(0.4, timeout)])
                if mishap is Mishap.LATE_REQUEST and not repeatable:
                    breaks = None
                return _struck(fate, mishap, late, breaks)
        return fate


def _struck(fate: Fate, mishap: Mishap, late: float, breaks: float | None) -> Fate:
    fate = replace(fate, mishap=mishap)
    (arrival,) = fate.arrivals
    match mishap:
        case Mishap.LOST_REQUEST:
            return replace(fate, arrivals=(), breaks=breaks)
        case Mishap.LOST_REPLY:
            return replace(fate, reply=None, breaks=breaks)
        case Mishap.LATE_REQUEST:
            return replace(fate, arrivals=(late,), breaks=breaks)
        case Mishap.LATE_REPLY:
            return replace(fate, reply=late)
        case Mishap.REPEATED:
            return replace(fate, arrivals=(arrival, arrival + (late if breaks is None else breaks)))
        case Mishap.REFUSED:
            return replace(fate, arrivals=(), breaks=arrival)
        case _:
            return fate
