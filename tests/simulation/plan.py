"""The plan of a run: the index, its clients and the faults, as a seed decides."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

from nextk.sessions import SearchQuery
from nextk.types import FusionAlgorithm, SparseVector
from tests.simulation.choices import Choices
from tests.simulation.server import QUIET
from tests.simulation.weather import Mishap
from tests.support.searches import COLOURS, DIMENSION, SHAPES, Shape

KINDS = ("dense", "sparse", "hybrid", "hybrid-batch", "hybrid-batch")
_RISKS = (0.0, 0.03, 0.1, 0.25)  # that anything happens to a message
_LARGEST_PAGE = 12
_NO_CAP = 100
_LOW, _HIGH = 3, 40
_FILTER = f"number >= {_LOW} AND number < {_HIGH}"


@dataclass(frozen=True)
class SearcherPlan:
    """The plan of a client that searches.

    Attributes:
        name: Its name.
        colour: The colour of its sessions, `"sync"` or `"async"`.
        place: The number of the transport that it uses first.
        question: Its query.
        max_idle: The seconds after which its query may expire.
        max_recovery: The number of matches that a recovery may request again; `None` for any number.
        largest: The size of its largest page.
        steady: Whether all of its pages are of that size.
        thinks: The seconds between two pages, at most.
        forgets: The probability that it lets its query expire before it goes on.
        detaches: The probability that it detaches between two pages, and resumes elsewhere.
        leaves: The probability that it stops between two pages.
        gives_up: The probability that it cancels or interrupts a call, and makes it again.
        wavers: Whether it requests a page of another size when a call has failed.
    """

    name: str
    colour: str
    place: int
    question: SearchQuery
    max_idle: int
    max_recovery: int | None
    largest: int
    steady: bool
    thinks: float
    forgets: float
    detaches: float
    leaves: float
    gives_up: float
    wavers: bool

    def finds(self, id_: str) -> bool:
        """Return whether the query finds a row that is there: each one that passes the filter.

        Args:
            id_: The id of the row.
        """
        return not self.question.filter or _LOW <= int(id_[1:]) < _HIGH


@dataclass(frozen=True)
class HoarderPlan:
    """The plan of a client that opens many queries and leaves them idle.

    Attributes:
        name: Its name.
        place: The number of its transport.
        question: Its query.
        count: The number of queries that it opens.
        holds: The seconds for which it holds them.
    """

    name: str
    place: int
    question: SearchQuery
    count: int
    holds: float


@dataclass(frozen=True)
class Incident:
    """Something that happens to the server.

    Attributes:
        name: Its name, by which it can be spared.
        time: When it happens, in seconds.
        seconds: For how long the server is away; or by how much its clock jumps; or which of its open queries ends.
    """

    name: str
    time: float
    seconds: float


@dataclass(frozen=True)
class Plan:
    """The plan of a run.

    Attributes:
        kind: The kind of the index.
        rows: The number of its rows at first.
        numbered: Whether the server numbers pages.
        cap: The number of queries that may be open.
        greets: Whether each transport has a reply of the server before the clients begin.
        read_only: Whether the token of each transport, which several clients may use, is the read-only one. That of the
            first one never is.
        searchers: The clients that search.
        writers: The names of the clients that write.
        hoarders: The clients that open queries and leave them idle.
        askers: The names of the clients that make plain queries.
        risks: The probability of each mishap of a message.
        restarts: The restarts of the server.
        jumps: The jumps of its clock.
        evictions: The times at which it drops one of its open queries.
    """

    kind: str
    rows: int
    numbered: bool
    cap: int
    greets: bool
    read_only: tuple[bool, ...]
    searchers: tuple[SearcherPlan, ...]
    hoarders: tuple[HoarderPlan, ...]
    writers: tuple[str, ...]
    askers: tuple[str, ...]
    risks: Mapping[Mishap, float]
    restarts: tuple[Incident, ...]
    jumps: tuple[Incident, ...]
    evictions: tuple[Incident, ...]

    @property
    def shape(self) -> Shape:
        """The index and its records."""
        return SHAPES[self.kind]

    @classmethod
    def of(cls, choices: Choices) -> "Plan":
        """Return the plan of a seed.

        Args:
            choices: The choices of the seed.
        """
        dice = choices.dice("plan")
        kind, transports = dice.choice(KINDS), dice.randint(1, 3)
        numbered = dice.random() < 0.65
        count, hoarders = dice.randint(1, 3), dice.choice([0, 0, 1, 2])
        return cls(
            kind=kind,
            rows=dice.randint(20, 40),
            numbered=numbered,
            cap=dice.choice([2, 3, 5] if hoarders else [_NO_CAP, _NO_CAP, count, max(1, count - 1)]),
            greets=dice.random() < 0.6,
            read_only=(False, *(dice.random() < 0.5 for _ in range(1, transports))),
            searchers=tuple(_searcher(f"search-{n}", kind, transports, choices, numbered) for n in range(1, count + 1)),
            writers=tuple(f"write-{n}" for n in range(1, 1 + dice.choice([0, 0, 0, 1, 2]))),
            hoarders=tuple(_hoarder(f"hoard-{n}", kind, transports, choices) for n in range(1, 1 + hoarders)),
            askers=("ask-1",) if dice.random() < 0.3 else (),
            risks=_risks(dice, 0.0 if numbered or kind != "hybrid-batch" else 0.2),
            restarts=_incidents("restart", 0.0, 8.0, dice),
            jumps=_incidents("jump", 30.0, 200.0, dice),
            evictions=_incidents("eviction", 0.0, 100.0, dice),
        )

    def __str__(self) -> str:
        risks = ", ".join(f"{mishap.value} {risk:.1%}" for mishap, risk in self.risks.items()) or "none"
        numbers = "numbered" if self.numbered else "not numbered"
        head = f"{self.kind}, {self.rows} rows, pages {numbers}, cap {self.cap}, transports read-only {self.read_only}"
        clients = [*map(str, self.searchers), *map(str, self.hoarders), *self.writers, *self.askers]
        incidents = [f"{each.name} at {each.time:.1f} s" for each in (*self.restarts, *self.jumps, *self.evictions)]
        return "\n".join([head, f"mishaps: {risks}", *clients, *incidents])


def _risks(dice: random.Random, least: float) -> dict[Mishap, float]:
    """Choose some mishaps, so that what only a few of them bring about is not drowned by the others.

    Args:
        dice: The generator.
        least: The probability that anything happens to a message, at least. Replays page by page are seldom, and what
            is done if one of their pages is lost would be seen in few runs otherwise.
    """
    risk = max(least, dice.choice(_RISKS))
    chosen = [mishap for mishap in Mishap if dice.random() < 0.5]
    return {mishap: risk / len(chosen) for mishap in chosen} if risk else {}


def _incidents(name: str, low: float, high: float, dice: random.Random) -> tuple[Incident, ...]:
    times = sorted(dice.uniform(0.5, 60.0) for _ in range(dice.choice([0, 0, 0, 1, 2])))
    return tuple(Incident(f"{name}-{n}", time, dice.uniform(low, high)) for n, time in enumerate(times, start=1))


def _searcher(name: str, kind: str, transports: int, choices: Choices, numbered: bool) -> SearcherPlan:
    dice = choices.dice("plan", name)
    exact = numbered and choices.dice("exact", name).random() < 0.5  # else the server does not know it
    return SearcherPlan(
        name=name,
        colour=dice.choice(COLOURS),
        place=dice.randrange(transports),
        question=replace(_question(kind, dice), exact=exact),
        max_idle=dice.choice([15, 60, 120]),
        max_recovery=dice.choice([None, 1_000, 1_000, 15]),
        largest=dice.randint(2, 5 if kind == "hybrid-batch" else _LARGEST_PAGE),
        steady=dice.random() < 0.5,
        thinks=dice.choice([0.1, 3.0, 10.0]),
        forgets=dice.choice([0.0, 0.0, 0.1, 0.3]),
        detaches=dice.choice([0.0, 0.0, 0.2, 0.5]),
        leaves=dice.choice([0.0, 0.0, 0.1]),
        gives_up=dice.choice([0.0, 0.1, 0.4]),
        wavers=kind != "hybrid-batch" and dice.random() < 0.5,  # the order of a batch depends on the sizes
    )


def _hoarder(name: str, kind: str, transports: int, choices: Choices) -> HoarderPlan:
    dice = choices.dice("plan", name)
    question = _question(kind, dice)
    return HoarderPlan(name, dice.randrange(transports), question, dice.randint(1, 6), dice.uniform(30, 600))


def _question(kind: str, dice: random.Random) -> SearchQuery:
    """Return a query of its own for the kind of an index."""
    question = SHAPES[kind].question
    if question.vector is not None:
        question = replace(question, vector=[dice.gauss(0, 1) for _ in range(DIMENSION)])
    if question.sparse_vector is not None:
        question = replace(question, sparse_vector=SparseVector([1, 2, 3, 4, 5], [dice.random() for _ in range(5)]))
    if kind.startswith("hybrid"):
        question = replace(question, fusion=dice.choice([None, *FusionAlgorithm]))
    return replace(question, filter=dice.choice(["", "", _FILTER]), namespace=dice.choice(["", "", QUIET]))
