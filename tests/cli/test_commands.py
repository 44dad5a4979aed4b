"""The command line: what each command prints, where it looks, and how it ends."""

import asyncio
import errno
import gc
import importlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from nextk import Index
from nextk.bodies import Query
from nextk.cli.locations import home as home_folder
from nextk.cli.main import COMMANDS, main
from nextk.cli.writing import MODELS
from nextk.engine import searching
from nextk.engine.filter.timer import FilterTimer
from nextk.server import listening
from nextk.server.turns import Turns, usable_cores
from nextk.types import Data, WeightingStrategy

TOKEN = "s3cret-token"
PROGRAM = "import sys; from nextk.cli.main import main; sys.exit(main())"
SUBJECTS = (
    "whale",
    "tree",
    "river",
    "stone",
    "engine",
    "violin",
    "bread",
    "planet",
    "window",
    "letter",
    "horse",
    "coin",
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees the user's own folders, tokens or terminal."""
    for name in ("NEXTK_DEBUG", "NEXTK_TOKEN", "NEXTK_READ_ONLY_TOKEN", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("HOME", tmp_path), ("NEXTK_HOME", tmp_path / "nextk"), ("COLUMNS", 120)):
        monkeypatch.setenv(name, str(value))
    return tmp_path / "nextk"


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder with one file per subject, and one that is no text."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for subject in SUBJECTS:
        (folder / f"{subject}.md").write_text(f"Everything about the {subject} and its uses.")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    return folder


def run_apart(
    *arguments: str, code: str = PROGRAM, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command line in a process of its own."""
    command = [sys.executable, "-c", code, *arguments]
    environment = {**os.environ, **(environment or {})}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603 - our own program


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the printed lines, with single spaces between words."""
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def mistake(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that was written to stderr; nothing may have been written to stdout."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("nextk")
    return err.strip()


def matches(capsys: pytest.CaptureFixture[str]) -> list[tuple[int, int, str]]:
    """Return rank, pull and id of every printed line of JSON."""
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [(one["rank"], one["pull"], one["id"]) for one in found]


# The program


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_every_command_explains_itself(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--help` prints what a command does, in lines that an ordinary terminal does not break, and ends well."""
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "usage: nextk" in said
    assert max(map(len, said.splitlines())) <= 80


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """`nextk` alone says what it can do, and where to start."""
    assert main([]) == 0
    assert "Start with: nextk demo" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (["fly"], "invalid choice: 'fly'"),
        (["query"], "arguments are required: TEXT"),
        (["query", ""], "argument TEXT: the question is blank: say what to look for"),
        (["query", " \n"], "argument TEXT: the question is blank"),
        (["demo", ""], "argument QUESTION: the question is blank"),
        (["query", "x", "-k", "many"], "argument -k: give a whole number of at least 1, not 'many'"),
        (["query", "x", "-k", "0"], "argument -k: give a whole number of at least 1, not '0'"),
        (["query", "x", "--more", "0"], "argument --more: give a whole number of at least 1, not '0'"),
        (["serve", "--max-body", "0"], "argument --max-body: give a whole number of at least 1, not '0'"),
        (
            ["serve", "--max-open-queries", "0"],
            "argument --max-open-queries: give a whole number of at least 1, not '0'",
        ),
        (["serve", "--search-threads", "0"], "argument --search-threads: give a whole number of at least 1, not '0'"),
        (["serve", "--filter-timeout", "0"], "argument --filter-timeout: give a whole number of at least 1, not '0'"),
        (["serve", "--max-namespaces", "0"], "argument --max-namespaces: give a whole number of at least 1, not '0'"),
        (["serve", "--port", "x"], "argument --port: give a whole number of at least 0, not 'x'"),
    ],
)
def test_a_wrong_argument_gets_one_line(wrong: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake on the command line is named in one line, with exit code 2."""
    with pytest.raises(SystemExit) as ended:
        main(wrong)
    assert ended.value.code == 2
    said = mistake(capsys)
    assert named in said
    assert "--help" in said


def test_help_and_query_load_nothing_that_they_do_not_need(texts: Path) -> None:
    """Help needs no engine, and a query no framework and no server: that is what makes them quick."""
    assert main(["ingest", str(texts)]) == 0
    code = f"{PROGRAM.replace('sys.exit(main())', '')}\ntry: main()\nfinally: sys.stderr.write(' '.join(sys.modules))"
    loaded = run_apart("--help", code=code).stderr.split()
    assert {"numpy", "orjson", "starlette", "lark", "pydantic", "httpx", "asyncio"}.isdisjoint(loaded)
    loaded = run_apart("query", "whale", code=code).stderr.split()
    assert "numpy" in loaded
    assert {"langchain_core", "llama_index", "starlette", "wordllama", "httpx"}.isdisjoint(loaded)


def test_a_command_leaves_the_garbage_collector_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a command runs, the collector seldom interrupts it; afterwards the caller's own thresholds hold again."""
    before = gc.get_threshold()
    monkeypatch.setattr("nextk.cli.info.run", lambda _arguments: int(gc.get_threshold()[0] > before[0]))
    assert main(["info"]) == 1
    assert gc.get_threshold() == before


@pytest.mark.parametrize(
    ("command", "module", "advice"),
    [
        (["query", "x"], "rich", "pip install 'nextk[local]'"),
        (["ingest", "."], "rich", "pip install 'nextk[local]'"),
        (["info"], "rich", "pip install 'nextk[local]'"),
        (["check", "x"], "numpy", "pip install 'nextk[local]'"),
        (["backup", "x"], "rich", "pip install 'nextk[local]'"),
        (["serve"], "uvicorn", "pip install 'nextk[server]'"),
        (["demo"], "llama_index.core", "pip install 'nextk[all]'"),
    ],
)
def test_a_missing_extra_is_named(
    command: list[str], module: str, advice: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A base install says what to install, in one line."""
    monkeypatch.setitem(sys.modules, module, None)
    assert main(command) == 2
    assert mistake(capsys) == f"nextk: {module} is not installed. Run: {advice}"


def test_an_interruption_ends_tidily(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C gets a short message and the shell's exit code for it."""

    def interrupt(_given: Path | None) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr("nextk.cli.info.index_to_read", interrupt)
    assert main(["info"]) == 130
    assert capsys.readouterr().err == "\nnextk: interrupted\n"


def test_a_reader_that_leaves_is_no_error(texts: Path) -> None:
    """`nextk query ... | head -1` prints no traceback."""
    main(["ingest", str(texts)])
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", PROGRAM, "query", "whale", "--json"]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=60)  # noqa: S603 - our own program
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, b"")


# ingest, query, info


@pytest.mark.parametrize("more", [[], ["--more", "1"]], ids=["one page", "pages"])
@pytest.mark.parametrize("exact", [True, False])
def test_exact_order(texts: Path, monkeypatch: pytest.MonkeyPatch, exact: bool, more: list[str]) -> None:
    """`--exact` makes every search of the command one in exact order."""
    main(["ingest", str(texts)])
    wishes, search = list[bool](), searching.SearchingEngine._search

    def noted(engine: searching.SearchingEngine, namespace: str, query: Query) -> Any:
        wishes.append(query.exact)
        return search(engine, namespace, query)

    monkeypatch.setattr(searching.SearchingEngine, "_search", noted)
    assert main(["query", "whale", *more, *["--exact"][: int(exact)]]) == 0
    assert [exact] == wishes


def test_texts_are_ingested_and_found(texts: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder's texts are in the default index, what was skipped is counted, and the best match comes first."""
    assert main(["ingest", str(texts)]) == 0
    first, *rest = lines(capsys)
    assert re.fullmatch(r"12 passages into ~/nextk/default.nextk in [0-9.]+ s", first)
    assert rest == ["skipped 1 (not one of .md .py .rst .txt): picture.png", 'nextk query "what to look for"']
    assert main(["query", "a whale", "-k", "1", "--more", "1"]) == 0
    heading, best, text, second, _text, summary = lines(capsys)
    assert heading == "pull # score id and text"
    assert re.fullmatch(r"top 1 1 0\.0\d+ texts/whale\.md", best)
    assert text == "Everything about the whale and its uses."
    assert second.startswith("next 1 2 0.0")
    assert re.fullmatch(r"1 \+ 1 matches in ~/nextk/default.nextk, \d+ ms", summary)


def test_more_continues_the_same_search(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`-k 2 --more 3 --more 1` prints the rows of `-k 6`, pull by pull."""
    main(["ingest", str(texts)])
    capsys.readouterr()
    main(["query", "a river and a tree", "-k", "6", "--json"])
    whole = matches(capsys)
    main(["query", "a river and a tree", "-k", "2", "--more", "3", "--more", "1", "--json"])
    assert matches(capsys) == [
        (rank, pull, id_) for (rank, _, id_), pull in zip(whole, (1, 1, 2, 2, 2, 3), strict=True)
    ]


@pytest.mark.parametrize(("arguments", "pulls"), [(["-k", "1050"], [1_050]), (["--more", "1040"], [5, 1_040])])
def test_more_than_one_query_can_bring(
    arguments: list[str], pulls: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A page may have more than 1,000 matches: each comes once, in the order of the search."""
    path = tmp_path / "large.nextk"
    with Index.embedded(path, **MODELS) as index:
        for start in (0, 600):
            index.upsert([Data(f"t{number}", f"whale {number}") for number in range(start, start + 600)])
        with index.resumable_query(data="whale", top_k=1_000, weighting_strategy=WeightingStrategy.IDF)[1] as handle:
            last = [match.id for match in handle.fetch_next(100)]
    main(["query", "whale", "--index", str(path), "--json", *arguments])
    found = matches(capsys)
    assert [pull for pull, size in enumerate(pulls, 1) for _ in range(size)] == [pull for _, pull, _ in found]
    assert len({id_ for *_, id_ in found}) == sum(pulls)
    assert last[: sum(pulls) - 1_000] == [id_ for *_, id_ in found[1_000:]]


def test_json_holds_the_whole_row(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A program reads id, score, metadata and text of every match."""
    main(["ingest", str(texts)])
    capsys.readouterr()
    main(["query", "violin", "-k", "1", "--filter", "title = 'violin.md'", "--json"])
    row = json.loads(capsys.readouterr().out)
    assert 0 < row.pop("score") < 1
    assert row == {
        "rank": 1,
        "pull": 1,
        "id": "texts/violin.md",
        "metadata": {"title": "violin.md", "parent": "texts/violin.md", "root": str(texts)},
        "data": "violin.md\n\nEverything about the violin and its uses.",
    }


def test_brackets_and_control_characters_do_nothing(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A text is shown and not obeyed: neither its markup nor its escape sequences reach the terminal."""
    (texts / "odd.md").write_text("the [red]unicorn[/red] \x1b[31mand :smile: its horn")
    main(["ingest", str(texts)])
    main(["query", "unicorn", "-k", "1"])
    out = capsys.readouterr().out
    assert "the [red]unicorn[/red] [31mand :smile: its horn" in out
    assert "\x1b" not in out


def test_reading_a_folder_again_replaces_what_it_said(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The passages that a shorter or a vanished file no longer has are removed, and other roots are not touched."""
    (texts / "long.md").write_text("\n\n".join(f"{subject} " * 200 for subject in SUBJECTS))
    (texts.parent / "texts.md").write_text("Another root, whose name begins alike.")
    for root in (texts, texts.parent / "texts.md"):
        main(["ingest", str(root)])
    (texts / "long.md").write_text("short now")
    (texts / "whale.md").unlink()
    capsys.readouterr()
    main(["ingest", str(texts)])
    assert re.fullmatch(r"12 passages into .* s, 17 outdated removed", lines(capsys)[0])
    main(["info", "--json"])
    assert json.loads(capsys.readouterr().out)["records"] == 13


def test_folders_of_one_index_keep_their_texts_apart(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files of the same name in two folders are both found, from wherever the folders are named."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "whale.md").write_text("Whales and their songs.")
    main(["ingest", str(texts)])
    monkeypatch.chdir(other)
    main(["ingest", "."])
    main(["ingest", str(other)])
    capsys.readouterr()
    main(["query", "whale", "-k", "2", "--json"])
    assert {id_ for _, _, id_ in matches(capsys)} == {"texts/whale.md", "other/whale.md"}
    main(["info", "--json"])
    assert json.loads(capsys.readouterr().out)["records"] == 13


def test_two_folders_of_one_name_are_not_mixed(
    texts: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second folder of the same name is refused before anything is written, as are ids written by others."""
    twin = tmp_path / "elsewhere" / "texts"
    twin.mkdir(parents=True)
    (twin / "whale.md").write_text("A pub called The Whale.")
    main(["ingest", str(texts)])
    capsys.readouterr()
    assert main(["ingest", str(twin)]) == 2
    said = mistake(capsys)
    assert f"already holds 'texts' of {texts}, and {twin} would get the same ids" in said
    assert "--namespace" in said
    assert main(["ingest", str(twin), "--namespace", "twin"]) == 0
    with Index.embedded(home / "default.nextk") as index:
        (kept,) = index.fetch(["texts/whale.md"], include_data=True)
        assert kept is not None
        assert kept.data == "whale.md\n\nEverything about the whale and its uses."
        index.upsert([("elsewhere/by-hand", "not from a folder")])
    capsys.readouterr()
    assert main(["ingest", str(twin.parent)]) == 2
    assert "'elsewhere/by-hand', which `nextk ingest` did not write" in mistake(capsys)


def test_what_is_skipped_is_named(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For each reason up to five files are named, and the others counted."""
    (texts / "nothing.txt").touch()
    for number in range(6):
        (texts / f"{number}.pdf").touch()
    main(["ingest", str(texts)])
    skipped = [line for line in lines(capsys) if line.startswith("skipped")]
    assert skipped == [
        "skipped 7 (not one of .md .py .rst .txt): 0.pdf, 1.pdf, 2.pdf, 3.pdf, 4.pdf and 2 more",
        "skipped 1 (empty): nothing.txt",
    ]


def test_a_terminal_without_unicode_still_shows_a_table(texts: Path) -> None:
    """Characters that a terminal cannot show are replaced, and nothing fails."""
    (texts / "café.md").write_text("# Très bon café\n\nFor the Möbius café.")
    main(["ingest", str(texts)])
    ended = run_apart("query", "cafe", "--more", "2", environment={"PYTHONIOENCODING": "ascii"})
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "texts/caf?.md: Tr?s bon caf?" in ended.stdout
    assert all(line == line.rstrip() for line in ended.stdout.splitlines())


def test_a_broken_index_gets_one_line(
    texts: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged file is reported in one line; with NEXTK_DEBUG=1 its traceback is printed too."""
    main(["ingest", str(texts)])
    capsys.readouterr()
    path = home / "default.nextk"
    path.write_bytes(path.read_bytes()[:4096].ljust(path.stat().st_size, b"\xff"))
    assert main(["info"]) == 2
    assert "is damaged (database disk image is malformed" in mistake(capsys)
    monkeypatch.setenv("NEXTK_DEBUG", "1")
    assert main(["info"]) == 2
    assert capsys.readouterr().err.startswith("Traceback")


def test_a_full_disk_gets_one_line(
    texts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A write that finds the disk full is reported in one line that says so."""

    def fail(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("nextk.engine.storage.Storage.upsert", fail)
    assert main(["ingest", str(texts)]) == 2
    error = mistake(capsys)
    assert "the disk is full (No space left on device). This call changed nothing" in error


def test_namespaces_are_apart(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Texts that are ingested into a namespace are found there only, and `info` counts them."""
    main(["ingest", str(texts), "--namespace", "ns"])
    capsys.readouterr()
    main(["query", "whale", "--json"])
    assert capsys.readouterr().out == ""
    main(["query", "whale", "--json", "--namespace", "ns", "-k", "1"])
    assert matches(capsys) == [(1, 1, "texts/whale.md")]
    main(["info", "--json"])
    assert json.loads(capsys.readouterr().out)["namespaces"] == {"": 0, "ns": 12}


def test_info_says_what_an_index_is(texts: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`info` shows type, models and counts, for people and for programs."""
    main(["ingest", str(texts)])
    capsys.readouterr()
    main(["info"])
    said = lines(capsys)
    for line in (
        "index ~/nextk/default.nextk",
        "type hybrid",
        "records 12",
        "embedding static",
        "sparse embedding bm25",
    ):
        assert line in said
    main(["info", "--json"])
    said_to_programs = json.loads(capsys.readouterr().out)
    assert said_to_programs["index"] == str(home / "default.nextk")
    assert (said_to_programs["type"], said_to_programs["dimension"]) == ("hybrid", 256)


def test_without_a_path_the_users_own_index_comes_before_the_demos(
    texts: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`query` and `info` read default.nextk, else demo.nextk, else say how to make one."""
    assert main(["info"]) == 2
    assert (
        mistake(capsys)
        == "nextk: there is no index yet: run `nextk demo`, or `nextk ingest PATH` for texts of your own"
    )
    for name in ("demo.nextk", "default.nextk"):
        main(["ingest", str(texts), "--index", str(home / name)])
        capsys.readouterr()
        main(["info", "--json"])
        assert json.loads(capsys.readouterr().out)["index"] == str(home / name)


def test_the_folder_of_the_indexes_follows_the_environment(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without NEXTK_HOME the platform's folder for data is used, and NEXTK_HOME wins over it."""
    monkeypatch.delenv("NEXTK_HOME")
    main(["ingest", str(texts)])
    assert (tmp_path / ".local/share/nextk/default.nextk").is_file()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    main(["ingest", str(texts)])
    assert (tmp_path / "data/nextk/default.nextk").is_file()
    monkeypatch.setenv("NEXTK_HOME", "~/own")
    assert home_folder() == tmp_path / "own"


@pytest.mark.parametrize(
    ("platform", "folder"), [("macos.MacOS", "Library/Application Support"), ("unix.Unix", ".local/share")]
)
def test_the_folder_of_the_indexes_is_the_platforms(
    platform: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each platform's own convention says where a program keeps its data."""
    module, _, kind = platform.partition(".")
    monkeypatch.delenv("NEXTK_HOME")
    monkeypatch.setattr("platformdirs.PlatformDirs", getattr(importlib.import_module(f"platformdirs.{module}"), kind))
    assert home_folder() == tmp_path / folder / "nextk"


@pytest.mark.parametrize("command", [["query", "x"], ["info"], ["backup", "copy"]])
def test_reading_never_makes_an_index(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A path without an index, an empty file, a file of another kind and a folder are refused and left as they are."""
    (tmp_path / "empty").touch()
    (tmp_path / "other").write_text("not a database, but long enough to look at. " * 20)
    for name, reason in (
        ("absent", "there is no index at"),
        ("empty", "there is no index at"),
        ("other", "is not a nextk index"),
        (".", "is a folder"),
    ):
        assert main([*command, "--index", str(tmp_path / name)]) == 2
        assert reason in mistake(capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "other"]
    assert (tmp_path / "empty").stat().st_size == 0


def test_what_the_index_refuses_is_said_in_one_line(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bad filter is reported in one line, for the user to correct."""
    main(["ingest", str(texts)])
    capsys.readouterr()
    assert main(["query", "x", "--filter", "a ="]) == 2
    assert "Invalid filter" in mistake(capsys)


def test_nothing_to_ingest_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A path that does not exist makes no index."""
    assert main(["ingest", str(tmp_path / "absent")]) == 2
    assert "does not exist" in mistake(capsys)
    assert not (tmp_path / "nextk").exists()


def test_a_held_index_is_said_to_be_so(texts: Path, home: Path) -> None:
    """A second process is told who has the index and how to share it."""
    main(["ingest", str(texts)])
    with Index.embedded(home / "default.nextk"):
        ended = run_apart("query", "whale")
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "is held by another process" in ended.stderr


# serve


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (["--host", "0.0.0.0"], "refusing to listen on 0.0.0.0 without a token: set NEXTK_TOKEN, or pass --token"),  # noqa: S104
        (["--index", "docs"], "--index docs: give a name and a type"),
        (["--port", "99999"], "port 99999 is not in 0..65535"),
        (["--data", "absent"], "there is no index (*.nextk) in absent"),
        (["--token", "x", "--read-only-token", "x"], "must differ"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(
    wrong: list[str], reason: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A bad flag, path or address ends with exit code 2 before anything listens."""
    monkeypatch.chdir(tmp_path)
    assert main(["serve", "--port", "0", *wrong]) == 2
    assert reason in mistake(capsys)
    assert not (tmp_path / "absent").exists()


def test_a_served_index_is_held_and_that_is_said(texts: Path, home: Path) -> None:
    """A server for an index that another process has open does not start."""
    main(["ingest", str(texts)])
    with Index.embedded(home / "default.nextk"):
        ended = run_apart("serve", "--port", "0", "--data", str(home))
    assert ended.returncode == 2
    assert "is held by another process" in ended.stderr
    assert ended.stdout == ""


def test_a_served_index_has_as_many_namespaces_as_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--max-namespaces` reaches the indexes: what is beyond it is refused with that option's name."""
    replies: list[str] = []

    async def ask(app: ASGIApp) -> list[str]:
        record = {"id": "a", "vector": [1.0]}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            return [(await client.post(f"/upsert/{namespace}", json=record)).text for namespace in ("x", "y")]

    monkeypatch.setattr(listening, "run", lambda app, _listener, _limits: replies.extend(asyncio.run(ask(app))))
    assert 0 == main(["serve", "--port", "0", "--index", "docs=dense", "--max-namespaces", "2"])
    assert '{"result":"Success"}' == replies[0]
    assert "--max-namespaces" in replies[1]


def test_a_served_index_has_as_many_open_queries_as_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--max-open-queries` reaches the indexes: the query that is one too many is refused, and the message counts."""
    replies: list[str] = []

    async def ask(app: ASGIApp) -> list[str]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            await client.post("/upsert", json={"id": "a", "vector": [1.0]})
            return [(await client.post("/resumable-query", json={"vector": [1.0]})).text for _ in range(3)]

    monkeypatch.setattr(listening, "run", lambda app, _listener, _limits: replies.extend(asyncio.run(ask(app))))
    assert 0 == main(["serve", "--port", "0", "--index", "docs=dense", "--max-open-queries", "4"])
    assert '"id":"a"' in replies[1]
    assert "limit: 2" in replies[2]


@pytest.mark.parametrize(
    ("options", "turns"), [([], max(2, usable_cores())), (["--search-threads", "3"], 3)], ids=["default", "3"]
)
def test_a_server_has_as_many_turns_as_it_is_told(
    options: list[str], turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--search-threads` reaches the application; without it there is a turn for each core, and at least two."""
    made: dict[str, int] = {}

    class Recorded(Turns):
        def __init__(self, count: int, name: str, executor: Callable[[int, str], Executor]) -> None:
            made[name] = count
            super().__init__(count, name, executor)

    monkeypatch.setattr("nextk.server.app.Turns", Recorded)
    monkeypatch.setattr(listening, "run", lambda _app, _listener, _limits: None)
    assert 0 == main(["serve", "--port", "0", "--index", "docs=dense", *options])
    assert turns == made["nextk-search"]


def test_a_served_filter_has_as_much_time_as_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--filter-timeout` reaches the indexes: a filter that takes longer is refused, and the message says so."""
    replies: list[httpx.Response] = []
    clock = itertools.chain([0.0], itertools.repeat(7.5)).__next__

    async def ask(app: ASGIApp) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            await client.post("/upsert", json={"id": "a", "vector": [1.0], "metadata": {"n": 1}})
            return await client.post("/query", json={"vector": [1.0], "filter": "n = 1"})

    monkeypatch.setattr(listening, "run", lambda app, _listener, _limits: replies.append(asyncio.run(ask(app))))
    monkeypatch.setattr(searching, "FilterTimer", lambda seconds: FilterTimer(seconds, clock=clock))
    assert 0 == main(["serve", "--port", "0", "--index", "docs=dense", "--filter-timeout", "7"])
    assert 503 == replies[0].status_code
    assert "longer than 7 seconds" in replies[0].text


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_server_runs_until_a_signal_and_keeps_what_it_was_told(
    tmp_path: Path, sign: signal.Signals, code: int
) -> None:
    """A server prints its URL, takes its token from the environment without showing it, and closes its files."""
    command = [sys.executable, "-c", PROGRAM, "serve", "--port", "0", "--data", str(tmp_path / "d")]
    command += ["--index", "pairs=dense,dimension=2", "--index", "words=sparse,sparse_embedding=bm25"]
    environment = {**os.environ, "NEXTK_TOKEN": TOKEN}
    with subprocess.Popen(  # noqa: S603 - our own program
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = [next(process.stdout).strip() for _ in range(6)]
        url = said[4].removeprefix("export UPSTASH_VECTOR_REST_URL=")
        assert said[0].startswith(f"nextk serves {url} ")
        assert [" ".join(line.split()) for line in said[2:4]] == [
            "pairs /indexes/pairs and / dense, cosine 0",
            "words /indexes/words sparse, bm25 0",
        ]
        assert said[5] == "export UPSTASH_VECTOR_REST_TOKEN=<your token>"
        assert httpx.get(f"{url}/info").status_code == 401
        with Index(url, TOKEN) as index:
            index.upsert([("a", [1.0, 0.0])])
        process.send_signal(sign)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (code, "")
    assert re.search(r"level=INFO logger=nextk.server index=pairs command=upsert status=200 ms=[0-9.]+\n", err)
    assert TOKEN not in err + "".join(said)
    assert "Traceback" not in err
    with Index.embedded(tmp_path / "d" / "pairs.nextk") as kept:
        assert kept.info().vector_count == 1


def test_the_weighting_of_an_index_is_told_and_taken(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`nextk ingest` makes an index that is weighted, `info` tells it with the models, and `query` can override it."""
    main(["ingest", str(texts)])
    capsys.readouterr()
    main(["info", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert ("hybrid", "idf") == (told["type"], told["weighting"])
    assert told["embedding_identity"].startswith("static(")
    assert "bm25-2" == told["sparse_embedding_identity"]
    found = {}
    for option in ([], ["--weighting", "idf"], ["--weighting", "none"]):
        main(["query", "the songs of a whale in the sea", "--json", "-k", "12", *option])
        found[" ".join(option)] = capsys.readouterr().out
    assert found[""] == found["--weighting idf"]


def test_an_index_without_a_weighting_is_searched_with_idf(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`nextk query` ranks an index that keeps no weighting as it ranked every index before: by inverse frequency."""
    path = tmp_path / "i"
    with Index.embedded(path, embedding="static", sparse_embedding="bm25") as index:
        index.upsert([Data(f"t{n}", "whale whale whale" if n else "harpoon") for n in range(9)])
        assert index.info().weighting is None
    found = {}
    for option in ([], ["--weighting", "idf"], ["--weighting", "none"]):
        main(["query", "whale harpoon", "--json", "--index", str(path), *option])
        found[" ".join(option)] = capsys.readouterr().out
    assert found[""] == found["--weighting idf"] != found["--weighting none"]


def test_an_index_that_wants_no_weighting_is_searched_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`nextk info` tells that an index wants no weighting, and `nextk query` searches without one, unless told."""
    path = tmp_path / "i"
    with Index.embedded(path, embedding="static", sparse_embedding="bm25", weighting="none") as index:
        index.upsert([Data(f"t{n}", "whale whale whale" if n else "harpoon") for n in range(9)])
    main(["info", "--json", "--index", str(path)])
    assert "none" == json.loads(capsys.readouterr().out)["weighting"]
    found = {}
    for option in ([], ["--weighting", "idf"], ["--weighting", "none"]):
        main(["query", "whale harpoon", "--json", "--index", str(path), *option])
        found[" ".join(option)] = capsys.readouterr().out
    assert found[""] == found["--weighting none"] != found["--weighting idf"]


def test_an_undecided_index_says_so_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`nextk info` says of an index without a type that the first write decides it."""
    Index.embedded(tmp_path / "i").close()
    main(["info", "--index", str(tmp_path / "i")])
    assert "decided by the first write" in capsys.readouterr().out
