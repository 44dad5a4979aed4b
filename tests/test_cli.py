"""The command line: what each command prints, where it looks, and how it ends."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from nextk import Index
from nextk.cli import demo, pulls
from nextk.cli.corpus import Passage
from nextk.cli.main import COMMANDS, build_parser, main

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
    for name in ("NEXTK_TOKEN", "NEXTK_READ_ONLY_TOKEN", "XDG_DATA_HOME"):
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


def run_apart(*arguments: str, code: str = PROGRAM) -> subprocess.CompletedProcess[str]:
    """Run a command line in a process of its own."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603 - our own program


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What was printed, line by line, with single blanks."""
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def mistake(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that was written to stderr; nothing was written to stdout."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("nextk")
    return err.strip()


def matches(capsys: pytest.CaptureFixture[str]) -> list[tuple[int, int, str]]:
    """Rank, pull and id of every line of JSON."""
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [(one["rank"], one["pull"], one["id"]) for one in found]


# The program


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_every_command_explains_itself(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` prints what a command does and ends well."""
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    assert "usage: nextk" in capsys.readouterr().out


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """`nextk` alone says what it can do, and where to start."""
    assert main([]) == 0
    assert "Start with: nextk demo" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong", [["fly"], ["query"], ["query", "x", "-k", "many"], ["serve", "--max-body", "0"], ["serve", "--port", "x"]]
)
def test_a_wrong_argument_gets_one_line(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake on the command line is named in one line, with exit code 2."""
    with pytest.raises(SystemExit) as ended:
        main(wrong)
    assert ended.value.code == 2
    assert "--help" in mistake(capsys)


def test_help_and_query_load_nothing_that_they_do_not_need(texts: Path) -> None:
    """Help needs no engine, and a query no framework and no server: that is what makes them quick."""
    assert main(["ingest", str(texts)]) == 0
    code = f"{PROGRAM.replace('sys.exit(main())', '')}\ntry: main()\nfinally: sys.stderr.write(' '.join(sys.modules))"
    loaded = run_apart("--help", code=code).stderr.split()
    assert {"numpy", "orjson", "starlette", "lark"}.isdisjoint(loaded)
    loaded = run_apart("query", "whale", code=code).stderr.split()
    assert "numpy" in loaded
    assert {"langchain_core", "llama_index", "starlette", "wordllama"}.isdisjoint(loaded)


@pytest.mark.parametrize(
    ("command", "module", "advice"),
    [
        (["query", "x"], "rich", "pip install 'nextk[local]'"),
        (["ingest", "."], "rich", "pip install 'nextk[local]'"),
        (["info"], "rich", "pip install 'nextk[local]'"),
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


def test_texts_are_ingested_and_found(texts: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder's texts are in the default index, what was skipped is counted, and the best match comes first."""
    assert main(["ingest", str(texts)]) == 0
    first, *rest = lines(capsys)
    assert re.fullmatch(r"12 passages into ~/nextk/default.nextk in [0-9.]+ s", first)
    assert rest == ["skipped 1: not one of .md .py .rst .txt", 'Next: nextk query "what to look for"']
    assert main(["query", "a whale", "-k", "2"]) == 0
    heading, best, _second, summary = lines(capsys)
    assert heading == "pull # score id text"
    assert re.fullmatch(r"first 1 0\.0\d+ whale\.md Everything about the whale and its uses\.", best)
    assert re.fullmatch(r"2 matches in ~/nextk/default.nextk, \d+ ms", summary)


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
        "id": "violin.md",
        "metadata": {"title": "violin.md", "parent": "violin.md"},
        "data": "violin.md\n\nEverything about the violin and its uses.",
    }


def test_brackets_and_control_characters_do_nothing(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is in a text is shown, not obeyed: neither markup nor an escape sequence reaches the terminal."""
    (texts / "odd.md").write_text("the [red]unicorn[/red] \x1b[31mand :smile: its horn")
    main(["ingest", str(texts)])
    main(["query", "unicorn", "-k", "1"])
    out = capsys.readouterr().out
    assert "the [red]unicorn[/red] [31mand :smile: its horn" in out
    assert "\x1b" not in out


def test_reading_a_folder_again_replaces_what_it_said(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that has become shorter leaves no passages of its old self, and other files are not touched."""
    (texts / "long.md").write_text("\n\n".join(f"{subject} " * 200 for subject in SUBJECTS))
    main(["ingest", str(texts)])
    (texts / "long.md").write_text("short now")
    (texts / "whale.md").unlink()
    capsys.readouterr()
    main(["ingest", str(texts)])
    assert re.match(r"12 passages into .* s, 1[0-9] outdated ones removed", lines(capsys)[0])
    main(["info", "--json"])
    assert json.loads(capsys.readouterr().out)["records"] == 13


def test_namespaces_are_apart(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is ingested into a namespace is found there only, and `info` counts it."""
    main(["ingest", str(texts), "--namespace", "ns"])
    capsys.readouterr()
    main(["query", "whale", "--json"])
    assert capsys.readouterr().out == ""
    main(["query", "whale", "--json", "--namespace", "ns", "-k", "1"])
    assert matches(capsys) == [(1, 1, "whale.md")]
    main(["info", "--json"])
    assert json.loads(capsys.readouterr().out)["namespaces"] == {"": 0, "ns": 12}


def test_info_says_what_an_index_is(texts: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Type, models and counts, for people and for programs."""
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
    """Without NEXTK_HOME the platform's folder for data is used."""
    monkeypatch.delenv("NEXTK_HOME")
    main(["ingest", str(texts)])
    assert (tmp_path / ".local/share/nextk/default.nextk").is_file()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    main(["ingest", str(texts)])
    assert (tmp_path / "data/nextk/default.nextk").is_file()


@pytest.mark.parametrize("command", [["query", "x"], ["info"]])
def test_reading_never_makes_an_index(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A path without an index, an empty file, a file of another kind and a folder are refused and left as they are."""
    (tmp_path / "empty").touch()
    (tmp_path / "other").write_text("not a database, but long enough to look at. " * 20)
    for name, reason in (
        ("absent", "there is no index at"),
        ("empty", "there is no index at"),
        ("other", "is not a nextk index"),
        (".", "cannot open an index at"),
    ):
        assert main([*command, "--index", str(tmp_path / name)]) == 2
        assert reason in mistake(capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "other"]
    assert (tmp_path / "empty").stat().st_size == 0


def test_what_the_index_refuses_is_said_in_one_line(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bad filter or size is the user's to mend."""
    main(["ingest", str(texts)])
    capsys.readouterr()
    for wrong, reason in (
        (["--filter", "a ="], "Invalid filter"),
        (["-k", "0"], "topK"),
        (["--more", "1001"], "additionalK"),
    ):
        assert main(["query", "x", *wrong]) == 2
        assert reason in mistake(capsys)


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


# demo


def passages(count: int = 40) -> Iterator[Passage]:
    """A small corpus: every passage about one subject."""
    for number in range(count):
        subject = SUBJECTS[number % len(SUBJECTS)]
        yield Passage(
            f"{subject}.{number}", f"The {subject} number {number}, as it is.", f"{subject}.{number}", subject
        )


def asked(*arguments: str) -> argparse.Namespace:
    """The arguments of a demo."""
    return build_parser().parse_args(["demo", *arguments])


def test_the_demo_pages_through_both_frameworks_with_equal_ids(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three pulls of three rows each, no row twice, the same from LangChain and LlamaIndex, and the index is kept."""
    assert demo.run(asked("what about the whale"), passages) == 0
    said = lines(capsys)
    assert re.match(r"40 passages of the documentation of Python [0-9.]+, built in [0-9.]+ s", said[0])
    assert said[1] == "~/nextk/demo.nextk"
    start = said.index("what about the whale")
    assert said[start + 1] == "pull # score LangChain LlamaIndex"
    rows = [re.fullmatch(r"(?:(?:top|next) 3 )?(\d) 0\.\d{4} (\S+) =", line) for line in said[start + 2 : start + 11]]
    assert [row[1] for row in rows if row] == list("123456789")
    assert len({row[2] for row in rows if row}) == 9
    assert [line[:6] for line in said if line.startswith(("top ", "next "))] == ["top 3 ", "next 3", "next 3"]
    assert re.fullmatch(
        r"LangChain 3\+3\+3 rows, \d+ ms · LlamaIndex 3\+3\+3 rows, \d+ ms · same ids", said[start + 11]
    )
    assert main(["query", "whale", "-k", "1", "--json"]) == 0
    assert matches(capsys)[0][2].startswith("whale.")


def test_a_second_demo_finds_the_index_built(capsys: pytest.CaptureFixture[str]) -> None:
    """The corpus is read once, unless a rebuilding is asked for."""
    demo.run(asked("whale"), passages)
    capsys.readouterr()

    def unread() -> Iterator[Passage]:
        pytest.fail("the corpus was read again")

    assert demo.run(asked("whale"), unread) == 0
    assert lines(capsys)[0].endswith("found built")
    assert demo.run(asked("whale", "--rebuild"), lambda: passages(20)) == 0
    assert lines(capsys)[0].startswith("20 passages")


def test_the_demo_asks_its_own_questions(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a question it asks a handful."""
    assert demo.run(asked(), passages) == 0
    said = lines(capsys)
    assert [question for question in demo.QUESTIONS if question in said] == list(demo.QUESTIONS)
    assert sum(line.endswith("same ids") for line in said) == len(demo.QUESTIONS)


def test_a_search_that_runs_dry_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """A corpus of four passages gives a page of three, one of one, and an empty one."""
    assert demo.run(asked("whale"), lambda: passages(4)) == 0
    assert any(re.match(r"LangChain 3\+1\+0 rows", line) for line in lines(capsys))


def test_different_ids_are_not_called_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the frameworks disagree, the demo shows where and fails."""

    def other(_index: Index, _question: str, _sizes: Sequence[int]) -> pulls.Trace:
        return pulls.Trace("LlamaIndex", [[pulls.Row("something.else", 0.5, "")]], 0.0)

    monkeypatch.setattr(pulls, "through_llama_index", other)
    assert demo.run(asked("whale"), passages) == 1
    said = "\n".join(lines(capsys))
    assert "the ids differ" in said
    assert "same ids" not in said
    assert "something.else" in said


def test_an_interrupted_build_is_done_anew(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half an index is never taken for a whole one, and what it held does not linger."""

    def interrupted() -> Iterator[Passage]:
        yield from passages(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo.run(asked("whale"), interrupted)
    assert not (home / "demo.nextk").exists()
    with Index.embedded(home / "demo.nextk.partial") as half:  # as if it had been interrupted a little later
        half.upsert([("leftover", "the whale of the first attempt")])
    assert demo.run(asked("whale"), passages) == 0
    said = lines(capsys)
    assert said[0].startswith("40 passages")
    assert not any("leftover" in line for line in said)
    assert [path.name for path in home.iterdir()] == ["demo.nextk"]


def test_a_rebuilding_spares_what_is_no_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--rebuild` with the wrong path destroys nobody's file."""
    (tmp_path / "thesis.txt").write_text("years of work " * 100)
    assert main(["demo", "--rebuild", "--index", str(tmp_path / "thesis.txt")]) == 2
    assert "is not a nextk index" in mistake(capsys)
    assert (tmp_path / "thesis.txt").read_text() == "years of work " * 100


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


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_server_runs_until_a_signal_and_keeps_what_it_was_told(
    tmp_path: Path, sign: signal.Signals, code: int
) -> None:
    """It says where it is, takes its token from the environment without showing it, and lets go of its files."""
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
