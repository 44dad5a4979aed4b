"""Faults by chance are the same ones for the same seed, and as frequent as they were asked to be."""

import pytest

from nextk.errors import ClientError
from nextk.testing import Fault, RandomFaults, RequestKind


def test_a_seed_decides() -> None:
    """Two plans with one seed hit the same requests by the same faults, and another seed hits others."""
    drawn = []
    for seed in (3, 3, 4):
        plan = RandomFaults(seed, drop_request=0.2, drop_reply=0.2, truncate=0.1, error_page=0.1, reset=0.1)
        drawn.append([plan.on_request(RequestKind.NEXT) for _ in range(100)])
        assert [fault for fault in drawn[-1] if fault] == [hit.fault for hit in plan.injected]
    assert drawn[0] == drawn[1] != drawn[2]


def test_certain_faults() -> None:
    """What is certain happens every time, and what is lost on its way has no reply that could be lost."""
    plan = RandomFaults(0, drop_request=1, drop_reply=1)
    assert {Fault.DROP_REQUEST} == {plan.on_request(RequestKind.STOP) for _ in range(20)}
    assert 20 == plan.count(RequestKind.STOP)


@pytest.mark.parametrize("chances", [{"reset": -0.1}, {"drop_request": 1.5}, {"drop_reply": 0.6, "truncate": 0.6}])
def test_impossible_probabilities(chances: dict[str, float]) -> None:
    """A probability that is none is refused."""
    with pytest.raises(ClientError, match="probabilities"):
        RandomFaults(0, **chances)  # type: ignore[arg-type]
