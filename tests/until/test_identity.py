"""The identity of policies, by which a cursor recognises the policies that it was made with."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import methodcaller
from types import MethodType, SimpleNamespace
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters
from pydantic import BaseModel
from qdrant_client import models

from nextk.until import Accepted, DistinctBy, MaxResults, MinScore, Policy, PolicyState, RerankStable, TokenBudget
from nextk.until.identity import describe_value
from tests.support.subprocesses import output

Check = Callable[[list[Any]], list[bool]]


def one(items: list[Any]) -> list[bool]:
    """Permit everything."""
    return [True for _ in items]


def two(items: list[Any]) -> list[bool]:
    """Permit everything as well, under another name."""
    return [True for _ in items]


def permitted_for(user: object) -> Check:
    """Return a check for a user, as applications make them for each request."""

    def check(items: list[Any]) -> list[bool]:
        return [item.owner == user for item in items]

    return check


def counted(tenant: int) -> tuple[Check, list[Any]]:
    """Return a check that counts its calls and records what it is given."""
    calls, seen = 0, []

    def check(items: list[Any]) -> list[bool]:
        nonlocal calls
        calls += 1
        seen.append((tenant, items))
        return one(items)

    return check, seen


@dataclass(frozen=True)
class User:
    """A user of an application."""

    name: str
    groups: tuple[str, ...] = ()
    number: int = 0


class Pair(NamedTuple):
    """A user as a named tuple."""

    name: str
    tenant: int


class Permissions:
    """An object that checks for a user and counts."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.calls = 0
        self.cache: dict[str, bool] = {}

    def __call__(self, items: list[Any]) -> list[bool]:
        """Permit everything, count the call and remember it."""
        self.calls += 1
        self.cache[str(items)] = True
        return one(items)

    def check(self, items: list[Any]) -> list[bool]:
        """Permit everything."""
        return self(items)

    def other(self, items: list[Any]) -> list[bool]:
        """Permit everything as well."""
        return self(items)


class Slotted:
    """An object that checks for a user, without a `__dict__`."""

    __slots__ = ("user",)

    def __init__(self, user: str) -> None:
        self.user = user

    def __call__(self, items: list[Any]) -> list[bool]:
        """Permit everything."""
        return one(items)


class Level:
    """An object that checks by a clearance, counts, and caches a property."""

    def __init__(self, level: int, groups: frozenset[str] = frozenset(), *, strict: bool = False) -> None:
        self.level, self.groups, self.strict = level, groups, strict
        self.calls = self.denied = 0

    @functools.cached_property
    def limit(self) -> int:
        """Return a value that is computed once."""
        return self.level + 1

    def check(self, items: list[Any]) -> list[bool]:
        """Permit everything, count the call, and use the cached property."""

        def count() -> None:
            self.denied += self.limit

        self.calls += 1
        count()
        return one(items)


def nested() -> Check:
    """Return a check that counts in a function within it."""
    calls = 0

    def check(items: list[Any]) -> list[bool]:
        def count() -> None:
            nonlocal calls
            calls += 1

        count()
        return one(items)

    return check


@dataclass
class Session:
    """A user of an application, with a counter."""

    user: str
    requests: int = 0


class Member(BaseModel):
    """A user as a pydantic model."""

    name: str


def of_session(session: Session) -> Check:
    """Return a check that counts the requests of a session."""

    def check(items: list[Any]) -> list[bool]:
        session.requests += 1
        return [item.owner == session.user for item in items]

    return check


def cached(user: str) -> Check:
    """Return a check by a function that caches its answers."""

    @functools.cache
    def allowed(owner: str) -> bool:
        return owner == user

    return lambda items: [allowed(item) for item in items]


class Switching(Permissions):
    """An object that checks for a user, who can be switched by another method."""

    def switch_to(self, user: str) -> None:
        """Check for another user from now on."""
        self.user = user


class Loop:
    """A check that holds itself."""

    def __init__(self) -> None:
        self.again = self

    def check(self, items: list[Any]) -> list[bool]:
        """Permit everything."""
        return one(items)


def default(user: str) -> Check:
    """Return a lambda that is bound to a user by a default."""
    check: Check = lambda items, user=user: [item.owner == user for item in items]  # type: ignore[misc]  # noqa: E731
    return check


def keyword(user: str) -> Check:
    """Return a function that is bound to a user by a default of a keyword."""

    def check(items: list[Any], *, allowed: str = user) -> list[bool]:
        return [item.owner == allowed for item in items]

    return check


def asked(user: Any, items: Any) -> list[bool]:
    """Permit what belongs to a user."""
    return [item.owner == user for item in items]


def wrapped(check: Check) -> Check:
    """Decorate a check, as a logging or timing decorator does."""

    @functools.wraps(check)
    def around(items: list[Any]) -> list[bool]:
        return check(items)

    return around


def recursive(depth: int) -> Check:
    """Return a check that calls itself, so that its closure holds itself."""

    def check(items: list[Any]) -> list[bool]:
        return check(items[depth:]) if items else []

    return check


DIFFERENT: dict[str, tuple[Any, Any]] = {
    "functions": (one, two),
    "lambdas": (lambda items: [True for _ in items], lambda items: [False for _ in items]),
    "lambdas by an attribute": (lambda items: [i.a for i in items], lambda items: [i.b for i in items]),
    "lambdas by an operator": (lambda items: [i > 1 for i in items], lambda items: [i < 1 for i in items]),
    "closures": (permitted_for("ann"), permitted_for("bob")),
    "closures over numbers": (permitted_for(7), permitted_for(8)),
    "closures over objects": (permitted_for(User("ann")), permitted_for(User("bob"))),
    "closures over groups": (permitted_for(User("ann", ("a",))), permitted_for(User("ann", ("b",)))),
    "closures over tuples": (permitted_for(Pair("ann", 1)), permitted_for(Pair("ann", 2))),
    "closures over sets": (permitted_for(frozenset("ab")), permitted_for(frozenset("ac"))),
    "closures over mutable sets": (permitted_for({"a"}), permitted_for({"a", "b"})),
    "closures over lists": (permitted_for(["a"]), permitted_for(["b"])),
    "closures over dicts": (permitted_for({"user": "a"}), permitted_for({"user": "b"})),
    "closures over namespaces": (permitted_for(SimpleNamespace(name="a")), permitted_for(SimpleNamespace(name="b"))),
    "closures over models": (permitted_for(Member(name="a")), permitted_for(Member(name="b"))),
    "closures over sessions": (of_session(Session("a")), of_session(Session("b"))),
    "closures over caches": (cached("ann"), cached("bob")),
    "partials over sets": (functools.partial(asked, user={"a"}), functools.partial(asked, user={"b"})),
    "methods that others assign": (Switching("ann").check, Switching("bob").check),
    "methods of built-in types": (["a"].__contains__, ["b"].__contains__),
    "functions of operator": (methodcaller("get", "a"), methodcaller("get", "b")),
    "closures over types": (permitted_for(1), permitted_for("1")),
    "closures over ids": (permitted_for(UUID(int=1)), permitted_for(UUID(int=2))),
    "closures that count": (counted(1)[0], counted(2)[0]),
    "defaults": (default("ann"), default("bob")),
    "keyword defaults": (keyword("ann"), keyword("bob")),
    "partials": (functools.partial(asked, user="ann"), functools.partial(asked, user="bob")),
    "partials by position": (functools.partial(asked, "ann"), functools.partial(asked, "bob")),
    "partials of functions": (functools.partial(one), functools.partial(two)),
    "objects": (Permissions("ann"), Permissions("bob")),
    "objects by slots": (Slotted("ann"), Slotted("bob")),
    "methods by a number": (Level(1).check, Level(5).check),
    "methods by groups": (Level(1, frozenset({"hr"})).check, Level(1, frozenset({"public"})).check),
    "methods by a flag": (Level(1, strict=True).check, Level(1, strict=False).check),
    "partials of numpy": (functools.partial(asked, items=np.True_), functools.partial(asked, items=np.False_)),
    "methods": (Permissions("ann").check, Permissions("ann").other),
    "methods of objects": (Permissions("ann").check, Permissions("bob").check),
    "an object and its method": (Permissions("ann"), Permissions("ann").check),
    "decorated functions": (wrapped(one), wrapped(two)),
    "built-in functions": (len, repr),
}
SAME: dict[str, Callable[[], Any]] = {
    "a function": lambda: one,
    "a lambda": lambda: lambda items: [item in {"a", "b", "c"} for item in items],
    "a closure": lambda: permitted_for("ann"),
    "a closure over a set": lambda: permitted_for(frozenset("abcdefgh")),
    "a closure over an object": lambda: permitted_for(User("ann", ("a", "b"))),
    "a closure over a connection": lambda: permitted_for(object()),
    "a closure over a mutable set": lambda: permitted_for({"a", "b", "c"}),
    "a closure over a model": lambda: permitted_for(Member(name="ann")),
    "a cached function": lambda: cached("ann"),
    "a closure that records": lambda: counted(3)[0],
    "a default": lambda: default("ann"),
    "a partial": lambda: functools.partial(asked, user="ann"),
    "an object": lambda: Permissions("ann"),
    "a method": lambda: Permissions("ann").check,
    "a method of an object that holds itself": lambda: Loop().check,
    "a function that calls itself": lambda: recursive(2),
    "a decorated function": lambda: wrapped(one),
    "a method that is a partial": lambda: MethodType(functools.partial(asked), Permissions("ann")),
}


@pytest.mark.parametrize("pair", DIFFERENT.values(), ids=DIFFERENT)
def test_another_function_makes_another_identity(pair: tuple[Any, Any]) -> None:
    """Two checks have two identities if another decision is to be expected of them."""
    first, second = pair
    assert Accepted(3, first).identity != Accepted(3, second).identity


@pytest.mark.parametrize("make", SAME.values(), ids=SAME)
def test_a_function_that_is_made_again_keeps_its_identity(make: Callable[[], Any]) -> None:
    """A check that an application makes anew for each request has one identity."""
    assert Accepted(3, make()).identity == Accepted(3, make()).identity


@pytest.mark.parametrize(
    "check",
    [
        Permissions("ann"),
        Permissions("ann").check,
        counted(4)[0],
        Level(1).check,
        nested(),
        of_session(Session("a")),
        cached("a"),
    ],
)
def test_counting_calls_keeps_the_identity(check: Check) -> None:
    """A check that counts its calls, fills a cache or records what it is given stays the same check."""
    before = Accepted(3, check).identity
    check([])
    assert before == Accepted(3, check).identity


@dataclass(frozen=True)
class Own(Policy):
    """A policy of an application, whose parameters are of several types."""

    limit: float
    words: list[str] = field(default_factory=list)
    weights: dict[str, Any] = field(default_factory=dict)

    def new_state(self, memory: dict[str, Any]) -> PolicyState:
        """Make a state that keeps everything."""
        return PolicyState(self)


class Plain(Policy):
    """A policy without a dataclass."""

    def __init__(self, year: int) -> None:
        self.year = year

    def new_state(self, memory: dict[str, Any]) -> PolicyState:
        """Make a state that keeps everything."""
        return PolicyState(self)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (MinScore(0.5), MinScore(0.6)),
        (MinScore(0.5), MinScore(0.5, patience=4)),
        (MinScore(5), MaxResults(5)),
        (Accepted(3, one), Accepted(4, one)),
        (DistinctBy("source", 3), DistinctBy("parent", 3)),
        (TokenBudget(5), TokenBudget(5, count=len)),
        (Plain(2020), Plain(2021)),
        (Own(1, ["a"]), Own(1, ["b"])),
        (Own(1, weights={"a": [1]}), Own(1, weights={"a": [2]})),
        (Own(float("inf")), Own(float("nan"))),
    ],
    ids=lambda policy: policy.name,
)
def test_another_parameter_makes_another_identity(first: Policy, second: Policy) -> None:
    """Policies of another class or with another parameter have another identity, also those of your own."""
    assert first.identity != second.identity


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (MinScore(1), MinScore(1.0)),
        (MinScore(0.5), MinScore(np.float64(0.5))),
        (Own(1, weights={"a": 1, "b": 2}), Own(1, weights={"b": 2, "a": 1})),
        (RerankStable(3, Permissions("a")), RerankStable(3, Permissions("a"))),
    ],
    ids=lambda policy: policy.name,
)
def test_equal_parameters_make_one_identity(first: Policy, second: Policy) -> None:
    """Numbers count by their value, and dicts by their content in any order."""
    assert first.identity == second.identity


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


def _canonical(value: Any) -> Any:
    """Return plain data in a form in which it can be compared as identities compare it: a bool is no number."""
    if isinstance(value, list):
        return [_canonical(one) for one in value]
    if isinstance(value, dict):
        return {key: _canonical(one) for key, one in value.items()}
    return (isinstance(value, bool), value)


@given(JSON, JSON)
def test_plain_data_is_one_identity_exactly_where_it_is_equal(first: Any, second: Any) -> None:
    """Parameters of plain data make one identity if they are equal, and two if they are not."""
    same = Own(1, [first]).identity == Own(1, [second]).identity
    assert same == (_canonical(first) == _canonical(second))


def test_another_process_finds_the_same_identity() -> None:
    """The identity is the same in another process, whose hashes of strings are other ones."""
    script = (
        "from nextk.until import Accepted\n"
        "from tests.until.test_identity import SAME\n"
        "print(*[Accepted(3, make()).identity for make in SAME.values()], sep='\\n')\n"
    )
    assert [Accepted(3, make()).identity for make in SAME.values()] == output(script).splitlines()


def pointing_at(place: int) -> models.Filter:
    """Return a filter of Qdrant's client, whose condition stands deep inside it."""
    return models.Filter(must=[models.FieldCondition(key="place", range=models.Range(lt=place))])


def matching(value: int) -> MetadataFilters:
    """Return filters of LlamaIndex."""
    return MetadataFilters(filters=[MetadataFilter(key="place", value=value)])


@pytest.mark.parametrize(
    "make",
    [pointing_at, matching, lambda place: SimpleNamespace(places=[place])],
    ids=["qdrant", "llama-index", "namespace"],
)
@pytest.mark.parametrize("within", [lambda one: one, lambda one: {"all": [one]}], ids=["alone", "nested"])
def test_the_filter_of_a_store_is_described_whole(make: Callable[[int], Any], within: Callable[[Any], Any]) -> None:
    """A filter that a client's models express is another one with another condition, and the same if made again."""
    assert describe_value(within(make(3))) == describe_value(within(make(3)))
    assert describe_value(within(make(3))) != describe_value(within(make(4)))
