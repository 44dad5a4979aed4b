"""The demo: what it builds, what it asks, and what it says of both frameworks."""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from nextk import Index
from nextk.cli import demo, pulls
from nextk.cli.corpus import Passage
from nextk.cli.main import build_parser, main
from nextk.errors import MissingExtraError

SUBJECTS = ("whale", "tree", "river", "stone", "engine", "violin")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees the user's own folders or terminal."""
    for name, value in (("HOME", tmp_path), ("NEXTK_HOME", tmp_path / "nextk"), ("COLUMNS", 120)):
        monkeypatch.setenv(name, str(value))
    return tmp_path / "nextk"


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the printed lines, with single spaces between words; no line may end in a space."""
    said = capsys.readouterr().out.splitlines()
    assert all(line == line.rstrip() for line in said)
    return [" ".join(line.split()) for line in said]


def passages(count: int = 40) -> Iterator[Passage]:
    """A small corpus: every passage about one subject."""
    for number in range(count):
        subject = SUBJECTS[number % len(SUBJECTS)]
        yield Passage(
            f"{subject}.{number}",
            f"{subject}.{number}\n\nThe {subject} number {number}, as it is.",
            f"{subject}.{number}",
            subject,
        )


def demo_arguments(*arguments: str) -> argparse.Namespace:
    """Parse the arguments of a demo."""
    return build_parser().parse_args(["demo", *arguments])


def test_the_demo_pages_through_both_frameworks_with_equal_ids(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three pulls of three rows each, no row twice, the same from LangChain and LlamaIndex, and the index is kept."""
    assert demo.run(demo_arguments("what about the whale"), passages) == 0
    said = lines(capsys)
    assert re.match(r"40 passages of the documentation of Python [0-9.]+, built in [0-9.]+ s", said[0])
    assert said[1] == "~/nextk/demo.nextk"
    start = said.index("what about the whale")
    assert said[start + 1] == "LangChain and LlamaIndex agree on every id"
    assert said[start + 2] == "pull # score id text"
    row = r"(?:(?:top|next) 3 )?(\d) 0\.\d{4} (\S+) The [a-z]+ number \d+, as it is\."
    rows = [re.fullmatch(row, line) for line in said[start + 3 : start + 12]]
    assert [row[1] for row in rows if row] == list("123456789")
    assert len({row[2] for row in rows if row}) == 9
    assert [line[:6] for line in said if line.startswith(("top ", "next "))] == ["top 3 ", "next 3", "next 3"]
    assert re.fullmatch(r"LangChain 3 \+ 3 \+ 3 rows, \d+ ms", said[start + 12])
    assert re.fullmatch(r"LlamaIndex 3 \+ 3 \+ 3 rows, \d+ ms", said[start + 13])
    assert "Each search read 9 rows; asking anew with top_k = 3, 6, 9 would have read 18." in said
    assert main(["query", "whale", "-k", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"].startswith("whale.")


@pytest.mark.parametrize(("columns", "texts"), [(60, 0), (80, 0), (100, 9), (140, 9)])
def test_long_ids_are_cut_and_nothing_else(
    columns: int, texts: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """However long an id and its title are, pull, rank and score stay; a wide terminal shows texts, too."""
    monkeypatch.setenv("COLUMNS", str(columns))

    def long_names() -> Iterator[Passage]:
        for each in passages():
            title = f"A title that is long enough to need a terminal of its own, and then another one: {each.title}"
            yield Passage(each.id, f"{title}\n\n{each.text}", title, each.parent)

    assert demo.run(demo_arguments("whale"), long_names) == 0
    said = capsys.readouterr().out.splitlines()
    rows = [line for line in said if re.match(r"(?:(?:top|next) 3|      ) +\d  0\.\d{4}  \S+: A title.*…", line)]
    assert len(rows) == 9
    assert all(len(line) <= columns for line in rows)
    assert sum(bool(re.search(r"…  [a-z]+\.\d+ The ", line)) for line in rows) == texts


def test_the_next_commands_can_be_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command is a line of its own however narrow the terminal is, and names an index that it would not find."""
    monkeypatch.setenv("COLUMNS", "40")
    assert demo.run(demo_arguments("whale"), passages) == 0
    assert {'nextk query "your question" --more 5', "nextk ingest PATH"} <= set(lines(capsys))
    path = tmp_path / "a folder with a long name" / "my own index.nextk"
    assert demo.run(demo_arguments("whale", "--index", str(path)), passages) == 0
    assert f"nextk query \"your question\" --more 5 --index '{path}'" in lines(capsys)


def test_a_second_demo_finds_the_index_built(capsys: pytest.CaptureFixture[str]) -> None:
    """The corpus is read once, unless `--rebuild` is given."""
    demo.run(demo_arguments("whale"), passages)
    capsys.readouterr()

    def unread() -> Iterator[Passage]:
        pytest.fail("the corpus was read again")

    assert demo.run(demo_arguments("whale"), unread) == 0
    assert lines(capsys)[0].endswith("already built")
    assert demo.run(demo_arguments("whale", "--rebuild"), lambda: passages(20)) == 0
    assert lines(capsys)[0].startswith("20 passages")


def test_the_demo_asks_its_own_questions(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a question the demo searches for its own questions."""
    assert demo.run(demo_arguments(), passages) == 0
    said = lines(capsys)
    assert [question for question in demo.QUESTIONS if question in said] == list(demo.QUESTIONS)
    assert said.count("LangChain and LlamaIndex agree on every id") == len(demo.QUESTIONS)


def test_a_search_that_runs_dry_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """A corpus of four passages gives a page of three, one of one, and an empty one."""
    assert demo.run(demo_arguments("whale"), lambda: passages(4)) == 0
    said = lines(capsys)
    assert any(line.startswith("LangChain 3 + 1 + 0 rows") for line in said)
    assert not any(line.startswith("Each search read") for line in said)


def test_different_ids_are_not_called_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the frameworks disagree, the demo shows where and fails."""

    def other(_index: Index, _question: str, _sizes: Sequence[int]) -> pulls.Trace:
        return pulls.Trace("LlamaIndex", [[pulls.ResultRow("something.else", 0.5, "")]], 0.0)

    monkeypatch.setitem(demo.FRAMEWORKS, "llama-index", demo.FRAMEWORKS["llama-index"]._replace(pull=other))
    assert demo.run(demo_arguments("whale"), passages) == 1
    said = "\n".join(lines(capsys))
    assert "LangChain and LlamaIndex give different ids" in said
    assert "agree" not in said
    assert "1 0.5000 LlamaIndex: something.else\n2 0" in said
    assert "2 LlamaIndex: nothing\n3 0" in said


@pytest.mark.parametrize(
    ("chosen", "said_of", "absent"),
    [("langchain", "LangChain", "llama_index.core"), ("llama-index", "LlamaIndex", "langchain_core")],
)
def test_one_framework_needs_no_other(
    chosen: str, said_of: str, absent: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--framework` shows the results of that framework, compares nothing, and does without the other framework."""
    monkeypatch.setitem(sys.modules, absent, None)
    assert demo.run(demo_arguments("whale", "--framework", chosen), passages) == 0
    said = lines(capsys)
    assert [line.split()[0] for line in said if "3 + 3 + 3 rows" in line] == [said_of]
    assert not any("agree" in line or "different" in line for line in said)


@pytest.mark.parametrize(
    ("arguments", "module", "extra"),
    [
        ([], "langchain_core", "all"),
        ([], "wordllama", "local"),
        (["--framework", "langchain"], "langchain_core", "langchain"),
        (["--framework", "langchain"], "rich", "local"),
        (["--framework", "llama-index"], "llama_index.core", "llama-index"),
    ],
)
def test_what_the_chosen_frameworks_lack_is_named(
    arguments: list[str], module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the package that is missing, and the extra that brings it."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"^{module} is not installed.*'nextk\[{extra}\]'"):
        demo.run(demo_arguments(*arguments), passages)


def test_an_interrupted_build_is_done_anew(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half an index is never taken for a whole one, and what it held does not linger."""

    def interrupted() -> Iterator[Passage]:
        yield from passages(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as raised:
        demo.run(demo_arguments("whale"), interrupted)
    assert [
        "The index is not complete and is not used. Run the command again to build it anew"
    ] == raised.value.__notes__
    assert not (home / "demo.nextk").exists()
    with Index.embedded(home / "demo.nextk.partial") as half:  # as if it had been interrupted a little later
        half.upsert([("leftover", "the whale of the first attempt")])
    assert demo.run(demo_arguments("whale"), passages) == 0
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
    assert "is not a nextk index" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "years of work " * 100


def test_a_second_first_demo_is_told_to_wait(home: Path) -> None:
    """A demo that starts while another process builds the index says so."""
    home.mkdir()
    command = [sys.executable, "-m", "nextk", "demo", "whale"]
    with Index.embedded(home / "demo.nextk.partial"):
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603 - our own program
    said = "nextk: another demo is building this index; try again when it is done\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", said)
