"""The bounds of `nextk serve`: what is sent, the status and the words that come back, and the memory that it takes."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk.bodies import MAX_DIMENSION, MAX_NON_ZEROS
from nextk.dispatch import COMMANDS
from nextk.engine.filter.syntax import MAX_BYTES
from nextk.errors import RefusedError
from nextk.server import body_limits
from nextk.server.body_limits import MAX_BODY, BodyLimit, body_limit
from tests.support.attacks import ATTACKS, TOKENS, Attack, make_indexes
from tests.support.server_process import ServerProcess, serving

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read as Linux tells it")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, httpx.Client]]:
    """`nextk serve` in a process of its own, with a small and a large dense index, and a client of it."""
    folder = tmp_path_factory.mktemp("data")
    make_indexes(folder)
    with serving(folder, "--root", "docs", *TOKENS) as process:
        url = f"http://127.0.0.1:{process.port}"
        with httpx.Client(base_url=url, timeout=60, verify=False) as client:  # noqa: S501 - certificates load slowly
            yield process, client


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_what_is_too_much_is_refused_in_words(server: tuple[ServerProcess, httpx.Client], attack: Attack) -> None:
    """A request beyond a bound is refused with words that say what to do, and takes little memory meanwhile."""
    process, client = server
    process.forget_peak()
    before = process.memory()
    reply = client.post(f"/{attack.command}", content=attack.content(), headers=attack.headers)
    assert attack.status == reply.status_code, reply.text
    assert attack.words in reply.json()["error"]
    assert len(reply.content) < 1_000
    assert process.peak_memory() - before < (400 if attack.command == "upsert" else 150)


FITTING: list[tuple[str, Any]] = [
    ("query", [{"vector": [-0.12345678901234567] * 5_376, "topK": 1}] * 100),
    ("query-data", [{"data": "\x00" * 20_000}] * 100),
    ("resumable-query-data", {"data": "é" * 32_768, "filter": "a = 'é'"}),
    ("fetch", {"ids": [str(number).ljust(500, "é") for number in range(1_000)]}),
    ("upsert", [{"id": number, "vector": [0.1234567890123456] * 2_000} for number in range(1_000)]),
    ("upsert-data", [{"id": number, "data": "[1,2],{" * 4_000} for number in range(1_000)]),
    ("update", {"id": 1, "data": "\x00" * 1_000_000}),
    ("rename-namespace", {"namespace": "\x00" * 1_000, "newNamespace": "\x00" * 1_000}),
]


@pytest.mark.parametrize(("command", "body"), FITTING, ids=[command for command, _ in FITTING])
def test_what_fits_the_fields_fits_the_body(command: str, body: object) -> None:
    """A body as large as the fields of a command allow is not refused as too large."""
    limit, content = body_limit(command, MAX_BODY), json.dumps(body).encode()
    limit.require_size(len(content))
    limit.require_few_values(content)


CONTROL = "\x01"  # one byte of UTF-8, and six as an escape
VECTORS = {
    "vector": [-1.7976931348623157e308] * MAX_DIMENSION,
    "sparseVector": {"indices": [2**31 - 1] * MAX_NON_ZEROS, "values": [-1.7976931348623157e308] * MAX_NON_ZEROS},
}
FILTER = CONTROL * MAX_BYTES
UUID = "0" * 36

LARGEST: list[tuple[str, Any, int]] = [
    ("query", VECTORS | {"filter": FILTER, "topK": 1_000, "includeMetadata": True}, 100),
    ("query-data", {"data": CONTROL * 65_536, "filter": FILTER, "topK": 1_000}, 100),
    ("resumable-query", VECTORS | {"filter": FILTER, "maxIdle": 3_600, "uuid": UUID}, 1),
    ("resumable-query-data", {"data": CONTROL * 65_536, "filter": FILTER, "uuid": UUID}, 1),
    ("resumable-query-next", {"uuid": UUID, "additionalK": 1_000, "pageNumber": 2**31}, 1),
    ("resumable-query-end", {"uuid": UUID}, 1),
    ("fetch", CONTROL * 1_000, 1_000),
    ("delete", CONTROL * 1_000, 1_000),
    ("delete", {"filter": FILTER}, 1),
    ("range", {"cursor": "9" * 18, "limit": 1_000, "prefix": CONTROL * 1_000}, 1),
    ("update", VECTORS | {"id": CONTROL * 1_000, "data": CONTROL * 10**6, "metadata": {"a": CONTROL * 48_000}}, 1),
    ("rename-namespace", {"namespace": CONTROL * 1_000, "newNamespace": CONTROL * 1_000}, 1),
]


@pytest.mark.parametrize(
    ("command", "item", "count"), LARGEST, ids=[f"{command} {count}" for command, _, count in LARGEST]
)
def test_escapes_fit_the_body(command: str, item: object, count: int) -> None:
    """As many of the largest values as a command allows are not too large, though each character is an escape."""
    limit, content = body_limit(command, MAX_BODY), json.dumps(item).encode()
    limit.require_size(count * (len(content) + len(", ")) + len('{"ids": []}'))
    limit.require_few_values(b"[" + content + b"]" if count == 1 else content)


def test_no_limit_is_above_that_of_upserts() -> None:
    """Whoever lowers the limit of upserts lowers that of every command."""
    assert {2_000} == {body_limit(command, 2_000).size for command in COMMANDS}
    assert [] == [
        command for command in COMMANDS if "upsert" not in command and body_limit(command, MAX_BODY).size > 43 * 2**20
    ]


json_values = st.recursive(
    st.none() | st.integers() | st.text(st.sampled_from('a,[{"\\é')),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.sampled_from(',["\\'), max_size=2), inner),
)


@pytest.mark.parametrize("piece", [1, 3, 2**18])
@given(value=json_values)
def test_values_are_counted_without_those_in_texts(piece: int, value: object) -> None:
    """A text may hold any number of commas and brackets: only values count, an empty list or object once or twice."""
    containers, values = counts(value)
    body = json.dumps(value, ensure_ascii=False).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(body_limits, "_PIECE", piece)
        BodyLimit(0, "", values=values + containers, containers=containers).require_few_values(body)
        if containers:
            with pytest.raises(RefusedError):
                BodyLimit(0, "", values=10**9, containers=containers - 1).require_few_values(body)


def counts(value: object) -> tuple[int, int]:
    """The number of lists and objects of a value, and that of all values in it, itself included."""
    if not isinstance(value, dict | list):
        return 0, 1
    inner = [counts(each) for each in (value.values() if isinstance(value, dict) else value)]
    return 1 + sum(containers for containers, _ in inner), 1 + sum(values for _, values in inner)
