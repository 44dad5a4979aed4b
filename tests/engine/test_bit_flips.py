"""An index of which one bit is flipped: whatever it still serves is the truth."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from nextk import Index
from nextk.engine.check import open_file
from nextk.engine.rescue import rescue
from tests.support import bit_flips
from tests.support.damaged_files import flip

SLICES = 10
FLIPS = 30
"""The number of bits that are flipped in each slice of the file, one at a time."""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an index that is whole."""
    path = tmp_path_factory.mktemp("original") / "index"
    bit_flips.make(path)
    return path


@pytest.fixture(scope="module")
def truth(original: Path) -> Mapping[str, Sequence[Any]]:
    """Everything that the index serves."""
    with Index.embedded(original) as index:
        return dict(bit_flips.served(index))


@pytest.mark.parametrize("part", range(SLICES))
def test_flipped_bits(original: Path, truth: Mapping[str, Sequence[Any]], part: int, tmp_path: Path) -> None:
    """After any flip, what is served is the truth, and what is missing is noticed by the log, a refusal or the check.

    No exception but those of nextk comes out, and the check reports every flip that changes anything that is served.
    """
    content = original.read_bytes()
    size = len(content) * 8 // SLICES
    chance = random.Random(part)  # noqa: S311 - no secret depends on it
    path = tmp_path / "index"
    for bit in sorted(chance.sample(range(part * size, (part + 1) * size), FLIPS)):
        path.write_bytes(content)
        flip(path, bit)
        outcome = bit_flips.observe(path, truth)
        assert [] == outcome.wrong, bit
        assert outcome.noticed or not outcome.missing, bit
        if outcome.noticed or outcome.refused:
            path.write_bytes(content)
            flip(path, bit)
            assert bit_flips.report(path), bit


@pytest.mark.parametrize("part", range(SLICES))
def test_rescue_after_a_flip(original: Path, truth: Mapping[str, Sequence[Any]], part: int, tmp_path: Path) -> None:
    """After a flip the rescue saves all but a few records, and what the new file serves is the truth."""
    path, new = tmp_path / "index", tmp_path / "new"
    path.write_bytes(original.read_bytes())
    size = original.stat().st_size * 8 // SLICES
    flip(path, random.Random(f"rescue {part}").randrange(part * size, (part + 1) * size))  # noqa: S311
    with open_file(path) as file:
        result = file.check()
        copied = rescue(file, new)
    assert result.whole == copied
    outcome = bit_flips.observe(new, truth)
    assert ([], [], "") == (outcome.wrong, outcome.noticed, outcome.refused)
    assert len([each for each in outcome.missing if each.startswith("range")]) == result.lost
