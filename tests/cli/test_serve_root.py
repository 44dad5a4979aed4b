"""`nextk serve`: which index answers at the root, from one start to the next."""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from starlette.types import ASGIApp

from nextk import Index
from nextk.cli.main import main
from nextk.server import listening
from nextk.server.root import FILE

Serve = Callable[..., str]

DOCS, OLDER, ZEBRAS = "docs=dense,dimension=2", "aardvarks=sparse", "zebras=hybrid"
NAMES = {"DENSE": "docs", "SPARSE": "aardvarks", "HYBRID": "zebras"}


async def _ask(app: ASGIApp) -> str:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        reply = (await client.post("/info")).json()
        metrics = (await client.get("/metrics")).text
    if "error" in reply:
        assert "} 1.0" not in "".join(line for line in metrics.splitlines() if line.startswith("nextk_at_root"))
        return str(reply["error"])
    name = NAMES[reply["result"]["indexType"]]
    assert f'nextk_at_root{{index="{name}"}} 1.0' in metrics
    return name


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Serve:
    """Start `nextk serve` over one folder and stop it again; returns the index at the root, or why there is none."""
    answers: list[str] = []
    for token in ("NEXTK_TOKEN", "NEXTK_READ_ONLY_TOKEN"):
        monkeypatch.delenv(token, raising=False)
    monkeypatch.setattr(listening, "run", lambda app, _listener, _limits: answers.append(asyncio.run(_ask(app))))

    def start(*specs: str, root: str | None = None, data: bool = True) -> str:
        arguments = ["serve", "--port", "0", *(["--data", str(tmp_path)] if data else [])]
        arguments += [part for spec in specs for part in ("--index", spec)]
        caplog.clear()
        with caplog.at_level(logging.INFO, "nextk"):
            assert 0 == main([*arguments, *(["--root", root] if root else [])])
        return answers.pop()

    return start


def messages(caplog: pytest.LogCaptureFixture, level: int) -> str:
    """Return what was logged at a level about the root."""
    return "\n".join(record.getMessage() for record in caplog.records if record.levelno == level)


def test_the_first_index_of_the_first_start_stays(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """A start without `--index` keeps the root, whatever the order of the files."""
    assert "docs" == serve(DOCS, OLDER)
    for _ in range(2):
        assert "docs" == serve()
        assert "index=docs answers at the root" in messages(caplog, logging.INFO)


def test_without_a_first_index_the_first_file_stays(serve: Serve, tmp_path: Path) -> None:
    """A first start without `--index` takes the first name, which an index that is added later does not replace."""
    for name, kind in (("zebras", "hybrid"), ("docs", "dense")):
        Index.embedded(tmp_path / f"{name}.nextk", type=kind).close()
    assert "docs" == serve()
    Index.embedded(tmp_path / "aardvarks.nextk", type="sparse").close()
    assert "docs" == serve()


@pytest.mark.parametrize("specs", [[OLDER, DOCS], [ZEBRAS, OLDER, DOCS]], ids=len)
def test_another_first_index(serve: Serve, caplog: pytest.LogCaptureFixture, specs: list[str]) -> None:
    """A start with another first `--index` keeps the root, and warns of it with the option that would change it."""
    serve(DOCS)
    assert "docs" == serve(*specs)
    first = specs[0].partition("=")[0]
    assert f"index=docs answers at the root, as it did before; --root {first} changes that" in messages(
        caplog, logging.WARNING
    )


def test_an_index_that_is_added(serve: Serve) -> None:
    """An index that comes later, and before the others by its name, does not come to the root."""
    serve(DOCS)
    serve(DOCS, OLDER)
    assert "docs" == serve()


@pytest.mark.parametrize("specs", [[], [OLDER]], ids=["folder", "specs"])
def test_an_index_that_is_gone(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture, specs: list[str]
) -> None:
    """If the index at the root is not served, no other one takes its place, and answer and log say what to do."""
    serve(DOCS, OLDER)
    kept = (tmp_path / "docs.nextk").rename(tmp_path / "kept")
    assert serve(*specs).startswith("Not found: the index at the root is docs, which is not served")
    assert "index=docs is the one at the root, but is not served" in messages(caplog, logging.WARNING)
    kept.rename(tmp_path / "docs.nextk")
    assert "docs" == serve()


def test_another_root(serve: Serve) -> None:
    """`--root` changes the root, for good."""
    serve(DOCS, OLDER)
    assert "aardvarks" == serve(root="aardvarks")
    assert "aardvarks" == serve()
    assert "aardvarks" == serve(DOCS, OLDER)
    assert "docs" == serve(DOCS, OLDER, root="docs")


def test_in_memory(serve: Serve) -> None:
    """Indexes in memory keep nothing: the first one is at the root, or the one that `--root` names."""
    assert "docs" == serve(DOCS, OLDER, data=False)
    assert "aardvarks" == serve(DOCS, OLDER, data=False, root="aardvarks")
    assert "docs" == serve(DOCS, OLDER, data=False)


def test_an_unknown_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--root` with a name that is not served is refused with the names that are, and nothing is kept."""
    assert 2 == main(["serve", "--port", "0", "--data", str(tmp_path), "--index", DOCS, "--root", "doc"])
    assert "--root doc: this start serves docs" in capsys.readouterr().err
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"root": 5}', b'{"root": ""}', b"\xff"], ids=repr)
def test_a_damaged_file(serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    """A file that does not name an index is no reason to take another one: it is refused, until `--root` decides."""
    serve(DOCS, OLDER)
    (tmp_path / FILE).write_bytes(content)
    capsys.readouterr()
    assert 2 == main(["serve", "--port", "0", "--data", str(tmp_path)])
    assert "choose one with --root NAME" in capsys.readouterr().err
    assert "docs" == serve(root="docs")
    assert "docs" == serve()


def test_a_write_that_fails(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails halfway leaves the old name, and no other file."""
    serve(DOCS, OLDER)
    before = sorted(path.name for path in tmp_path.iterdir())

    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        assert 2 == main(["serve", "--port", "0", "--data", str(tmp_path), "--root", "aardvarks"])
    assert before == sorted(path.name for path in tmp_path.iterdir())
    assert "docs" == serve()
