"""The corpora of the command line: the standard library's documentation, and folders of text."""

import errno
import itertools
import os
import re
import socket
import sys
import sysconfig
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk import Index
from nextk.cli.corpus import Passage, SkippedFile, read_folder, standard_library
from nextk.cli.splitting import PASSAGE_LIMIT, split_text, without_title
from nextk.errors import ClientError

BODY = "A sentence that is long enough to be worth a passage of its own."


@pytest.fixture(scope="module")
def library() -> list[Passage]:
    """The corpus of the Python that runs the tests."""
    return list(standard_library())


@pytest.fixture
def fake_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A standard library of a few files, without topics."""
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(tmp_path))
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    return tmp_path


def write(path: Path, text: str | bytes) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)


class TestSplitText:
    """Splitting at the borders of the text."""

    @given(st.text(alphabet="ab é.#=\n\t", max_size=300), st.integers(1, 60))
    def test_nothing_is_lost(self, text: str, limit: int) -> None:
        """The pieces hold every visible character, in order, and none is longer than the limit or blank."""
        pieces = split_text(text, limit)
        assert "".join(text.split()) == "".join("".join(pieces).split())
        assert all(piece.strip() and len(piece) <= limit for piece in pieces)

    @given(st.lists(st.text(alphabet="abc", min_size=1, max_size=12), max_size=30))
    def test_words_stay_whole(self, words: list[str]) -> None:
        """A word that fits is never cut."""
        assert words == " ".join(split_text(" ".join(words), 12)).split()

    @given(st.lists(st.integers(1, 40), min_size=1, max_size=20), st.integers(40, 100))
    def test_neighbours_are_merged(self, lengths: list[int], limit: int) -> None:
        """Paragraphs stay whole, and two pieces in a row never fit into one."""
        paragraphs = ["x" * length for length in lengths]
        pieces = split_text("\n\n \n".join(paragraphs), limit)
        assert paragraphs == "\n\n".join(pieces).split("\n\n")
        neighbours = itertools.pairwise(pieces)
        assert all(len(left) + 2 + len(right.partition("\n\n")[0]) > limit for left, right in neighbours)

    def test_indentation_survives(self) -> None:
        """A block after a blank line keeps its indent."""
        assert split_text("Usage:\n   \n    >>> wrap(text)\n") == ["Usage:\n\n    >>> wrap(text)"]

    @given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 150)), min_size=1, max_size=12))
    def test_headings_lead(self, sections: list[tuple[int, int]]) -> None:
        """A heading stands right above its text, in one piece with it, however the text has to be cut."""
        paragraphs = [
            f"{'#' * level} {position}\n\n{position}{' x' * length}"
            for position, (level, length) in enumerate(sections)
        ]
        pieces = split_text("\n\n".join(paragraphs), 60)
        assert all(len(piece) <= 60 for piece in pieces)
        assert all(
            any(f"# {position}\n\n{position} x" in piece for piece in pieces) for position in range(len(sections))
        )

    def test_underlined_headings_lead(self) -> None:
        """The headings of reStructuredText go with their texts, too, and several in a row stay together."""
        section = f"Title\n=====\n\nPart\n----\n\n{'b' * 30}"
        assert split_text(f"{'a' * 30}\n\n{section}", 60) == ["a" * 30, section]


class TestWithoutTitle:
    """The title of a Markdown text."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("# A title #\n\ntext", ("A title", "\ntext")),
            ("\n# A title\ntext", ("A title", "text")),
            ("intro\n\n# A title\n\ntext", ("A title", "intro\n\n# A title\n\ntext")),
            ("```sh\n# comment\n```\n# A title\ntext", ("A title", "```sh\n# comment\n```\n# A title\ntext")),
            ("# A title\n", ("A title", "# A title\n")),
            ("## A part\n\n#hash\n\n#\n", ("", "## A part\n\n#hash\n\n#\n")),
            ("", ("", "")),
        ],
    )
    def test_the_first_heading(self, text: str, expected: tuple[str, str]) -> None:
        """The first `# heading` outside of code is the title, taken out where it stands above all the rest."""
        assert expected == without_title(text)


class TestStandardLibrary:
    """The documentation that every Python has."""

    def test_size(self, library: list[Passage]) -> None:
        """There are thousands of passages, from hundreds of parents, each of a bearable size."""
        assert 4_000 < len(library) < 9_000
        assert len({passage.parent for passage in library}) > 300
        assert all(len(passage.text) <= PASSAGE_LIMIT + len(passage.title) + 2 for passage in library)

    def test_ids(self, library: list[Passage]) -> None:
        """Ids are unique, the same in the next run, and numbered without gaps."""
        assert len(library) == len({passage.id for passage in library})
        assert library == list(standard_library())
        counts = Counter(passage.id.partition("#")[0] for passage in library)
        numbered = {name if n == 1 else f"{name}#{n}" for name, count in counts.items() for n in range(1, count + 1)}
        assert numbered == {passage.id for passage in library}

    def test_title_leads_the_text(self, library: list[Passage]) -> None:
        """Every text begins with its title, and every docstring's title with its module."""
        assert all(passage.text.startswith(f"{passage.title}\n\n") for passage in library)
        docstrings = [passage for passage in library if not passage.id.startswith("topic:")]
        assert all(f"{passage.title}.".startswith(f"{passage.parent}.") for passage in docstrings)

    def test_known_passages(self, library: list[Passage]) -> None:
        """Methods, modules and topics are found under their own names."""
        by_id = {passage.id: passage for passage in library}
        method = by_id["textwrap.TextWrapper.wrap"]
        assert (method.title, method.parent) == ("textwrap.TextWrapper.wrap", "textwrap")
        assert "Reformat the single paragraph" in method.text
        assert by_id["difflib"].parent == "difflib"
        topic = by_id["topic:if"]
        assert (topic.title, topic.parent) == ('The "if" statement', "topic:if")
        assert topic.text.startswith('The "if" statement\n\nThe "if" statement is used for conditional execution:')

    def test_no_tests_and_nothing_private(self, library: list[Passage]) -> None:
        """No part of a dotted name is a test folder, and no definition is private."""
        docstrings = [passage for passage in library if not passage.id.startswith("topic:")]
        assert {"test", "tests", "idle_test"}.isdisjoint(part for p in docstrings for part in p.parent.split("."))
        definitions = [part for p in docstrings for part in p.title.removeprefix(p.parent).split(".") if part]
        assert not [name for name in definitions if re.match(r"_(?!.*__$)", name)]

    def test_imports_nothing_that_it_reads(self, fake_library: Path) -> None:
        """A module that would fail on import is read like any other, with what stands below an `if` or a `try`."""
        write(
            fake_library / "trap.py",
            f'''"""{BODY} trap"""
raise SystemExit
if True:
    try:
        class Box:
            """{BODY} box"""
            def open(self):
                """{BODY} open"""
                def inner():
                    """{BODY} inner"""
            def _secret(self):
                """{BODY} secret"""
            def __len__(self):
                """{BODY} length"""
            def short(self):
                """Short."""
    except ImportError:
        async def fallback():
            """{BODY} fallback"""
''',
        )
        expected = {
            "trap": "trap",
            "trap.Box": "box",
            "trap.Box.open": "open",
            "trap.Box.__len__": "length",
            "trap.fallback": "fallback",
        }
        passages = list(standard_library())
        assert expected == {passage.id: passage.text.rpartition(" ")[2] for passage in passages}
        assert {"trap"} == {passage.parent for passage in passages}

    def test_modules_by_path(self, fake_library: Path) -> None:
        """A package is named by its folder; tests, data, caches and installed packages are left out."""
        for name in ("b/__init__.py", "b/c/deep.py", "a.py"):
            write(fake_library / name, f'"""{BODY}"""')
        for name in (
            "test/support.py",
            "b/tests/t.py",
            "idlelib/idle_test/t.py",
            "site-packages/p.py",
            "__pycache__/a.py",
            "no-module.py",
            "notes.txt",
            ".hidden.py",
        ):
            write(fake_library / name, f'"""{BODY}"""')
        assert [passage.id for passage in standard_library()] == ["a", "b", "b.c.deep"]

    def test_faulty_files_are_skipped(self, fake_library: Path, recwarn: pytest.WarningsRecorder) -> None:
        """Files that do not parse, decode or open do no harm, and invalid escapes raise no warning."""
        write(fake_library / "syntax.py", "def (:")
        write(fake_library / "encoding.py", b'"""\xff\xfe no encoding is this"""')
        write(fake_library / "cookie.py", "# -*- coding: no-such-codec -*-\n")
        write(fake_library / "null.py", "x = '\0'")
        write(fake_library / "deep.py", "x = " + "-" * 100_000 + "1")
        (fake_library / "dangling.py").symlink_to(fake_library / "nowhere.py")
        write(fake_library / "latin.py", f'# -*- coding: latin-1 -*-\n"""{BODY} caf\xe9 \\d"""'.encode("latin-1"))
        assert [passage.text.split()[-2:] for passage in standard_library()] == [["café", "\\d"]]
        assert not recwarn.list

    def test_one_name_twice(self, fake_library: Path) -> None:
        """A property and its setter, or a class and a module of one name, share a run of numbers."""
        write(fake_library / "p/__init__.py", f'class q:\n    """{BODY} class"""\n')
        write(fake_library / "p/q.py", f'"""{BODY} module"""')
        expected = [("p.q", "p", "class"), ("p.q#2", "p.q", "module")]
        assert expected == [(p.id, p.parent, p.text.rpartition(" ")[2]) for p in standard_library()]

    def test_long_docstrings_are_split(self, fake_library: Path) -> None:
        """A long docstring gives several passages under one title."""
        paragraphs = [f"{number} {'word ' * 100}".strip() for number in range(10)]
        write(fake_library / "long.py", '"""' + "\n\n".join(paragraphs) + '\n"""')
        passages = list(standard_library())
        assert [passage.id for passage in passages] == ["long", "long#2", "long#3", "long#4", "long#5"]
        assert {"long"} == {passage.title for passage in passages}
        assert paragraphs == "\n\n".join(passage.text.removeprefix("long\n\n") for passage in passages).split("\n\n")


class TestReadFolder:
    """The user's own texts."""

    def test_a_folder(self, tmp_path: Path) -> None:
        """Text files are read in the order of their names, and named by their path from the folder's name on."""
        tmp_path = tmp_path / "notes"
        write(tmp_path / "b.md", "# Title\r\n\r\nSome text.")
        write(tmp_path / "a.txt", "\ufeffFirst.")
        write(tmp_path / "docs" / "c.RST", f"{BODY}\n\n" * 30)
        write(tmp_path / "docs" / "code.py", "x = 1")
        passages = list(read_folder(tmp_path))
        expected = ["notes/a.txt", "notes/b.md", "notes/docs/c.RST", "notes/docs/c.RST#2", "notes/docs/code.py"]
        assert expected == [passage.id for passage in passages]
        assert Passage("notes/a.txt", "a.txt\n\nFirst.", "a.txt", "notes/a.txt") == passages[0]
        assert Passage("notes/b.md", "Title\n\nSome text.", "Title", "notes/b.md") == passages[1]
        assert {("docs/c.RST", "notes/docs/c.RST")} == {(passage.title, passage.parent) for passage in passages[2:4]}

    def test_what_is_skipped(self, tmp_path: Path) -> None:
        """A file that is no text is reported with the reason; hidden files are skipped without a report."""
        write(tmp_path / "good.txt", "good")
        write(tmp_path / "latin.txt", b"caf\xe9")
        write(tmp_path / "null.md", b"a\0b")
        write(tmp_path / "paper.pdf", "%PDF")
        write(tmp_path / "empty.txt", " \n")
        write(tmp_path / os.fsdecode(b"z\xff.txt"), "a name that no index can hold")
        for name in (".hidden.txt", ".git/a.txt", "__pycache__/a.txt", "node_modules/a.txt"):
            write(tmp_path / name, "hidden")
        write(tmp_path / os.fsdecode(b"\xfe") / "a.txt", "a name that no index can hold")
        long_name = "/".join(["x" * 200] * 5)
        write(tmp_path / long_name / "a.txt", "a name that is too long for an id")
        skipped: list[SkippedFile] = []
        passages = list(read_folder(tmp_path, skipped.append))
        assert [passage.title for passage in passages] == ["good.txt"]
        assert not any(each.unreadable for each in skipped)
        assert [f"{tmp_path.name}/{each.path.relative_to(tmp_path)}" for each in skipped] == [
            each.name for each in skipped
        ]
        assert [(each.path.name, each.reason) for each in skipped] == [
            ("empty.txt", "empty"),
            ("latin.txt", "not UTF-8 text"),
            ("null.md", "binary"),
            ("paper.pdf", "not one of .md .py .rst .txt"),
            ("z\udcff.txt", "its name is not UTF-8"),
            ("a.txt", "its path is too long for an id"),
            ("a.txt", "its name is not UTF-8"),
        ]
        assert passages == list(read_folder(tmp_path))

    def test_an_unreadable_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that cannot be opened is reported with the system's words, and the others are read."""
        write(tmp_path / "a.txt", "a")
        write(tmp_path / "b.txt", "b")
        open_file = Path.open

        def refuse_a(path: Path, **options: Any) -> object:
            if path.name == "a.txt":
                raise PermissionError(13, "Permission denied")
            return open_file(path, **options)

        monkeypatch.setattr(Path, "open", refuse_a)
        skipped: list[SkippedFile] = []
        passages = list(read_folder(tmp_path, skipped.append))
        assert [passage.title for passage in passages] == ["b.txt"]
        refused = SkippedFile(tmp_path / "a.txt", "Permission denied", f"{tmp_path.name}/a.txt", unreadable=True)
        assert [refused] == skipped

    def test_a_folder_that_cannot_be_listed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A folder that the system does not let us list is reported, and the others are read."""
        write(tmp_path / "a" / "a.txt", "a")
        write(tmp_path / "b" / "b.txt", "b")
        scandir = os.scandir

        def refuse_a(folder: str) -> object:
            if Path(folder).name == "a":
                raise PermissionError(13, "Permission denied", folder)
            return scandir(folder)

        monkeypatch.setattr(os, "scandir", refuse_a)
        skipped: list[SkippedFile] = []
        passages = list(read_folder(tmp_path, skipped.append))
        assert [passage.title for passage in passages] == ["b/b.txt"]
        assert [SkippedFile(tmp_path / "a", "Permission denied", f"{tmp_path.name}/a", unreadable=True)] == skipped

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the platform has no named pipes")
    def test_what_is_no_regular_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Pipes, sockets, and links to nothing, to themselves or to a device are reported, and never waited for."""
        monkeypatch.chdir(tmp_path)  # the name of a socket must be short
        os.mkfifo(tmp_path / "a-pipe.txt")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("b-socket.txt")
        (tmp_path / "c-device.txt").symlink_to("/dev/zero")
        (tmp_path / "d-circle.txt").symlink_to(tmp_path / "d-circle.txt")
        (tmp_path / "e-nowhere.txt").symlink_to(tmp_path / "nowhere")
        (tmp_path / "f-up").symlink_to(tmp_path)
        skipped: list[SkippedFile] = []
        assert [] == list(read_folder(tmp_path, skipped.append))
        assert [(each.path.name, each.reason) for each in skipped] == [
            ("a-pipe.txt", "not a regular file"),
            ("b-socket.txt", "not a regular file"),
            ("c-device.txt", "not a regular file"),
            ("d-circle.txt", os.strerror(errno.ELOOP)),
            ("e-nowhere.txt", os.strerror(errno.ENOENT)),
        ]
        with pytest.raises(ClientError, match=r"a-pipe\.txt is neither a folder nor a file"):
            read_folder(tmp_path / "a-pipe.txt")

    def test_a_file_that_vanishes(self, tmp_path: Path) -> None:
        """A file that is removed between the listing and the reading is reported, and is not counted as unreadable."""
        for name in ("a.txt", "b.txt"):
            write(tmp_path / name, name)
        skipped: list[SkippedFile] = []
        read = []
        for passage in read_folder(tmp_path, skipped.append):
            read.append(passage.title)
            (tmp_path / "b.txt").unlink()
        assert ["a.txt"] == read
        assert [(os.strerror(errno.ENOENT), False)] == [(each.reason, each.unreadable) for each in skipped]

    def test_folders_inside_each_other(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file below more than a thousand folders is found, and has a path that is too long for an id."""
        monkeypatch.chdir(tmp_path)
        for _ in range(1_200):
            os.mkdir("d")  # noqa: PTH102 - the whole path is too long to be made at once
            os.chdir("d")
        Path("a.txt").write_text("a")
        monkeypatch.chdir(tmp_path)
        skipped: list[SkippedFile] = []
        assert [] == list(read_folder(tmp_path, skipped.append))
        assert [("a.txt", "its path is too long for an id")] == [(each.path.name, each.reason) for each in skipped]
        while Path("d").exists():  # from the top down, as what removes the folder of a test later is recursive
            Path("d").rename("top")
            for inside in Path("top").iterdir():
                inside.rename(inside.name)
            Path("top").rmdir()

    def test_a_huge_file(self, tmp_path: Path) -> None:
        """A file of more than 32 MiB is reported and not read."""
        with (tmp_path / "huge.txt").open("wb") as file:
            file.truncate(32 * 2**20 + 1)
        skipped: list[SkippedFile] = []
        assert [] == list(read_folder(tmp_path, skipped.append))
        assert ["larger than 32 MiB"] == [each.reason for each in skipped]

    def test_a_root_whose_name_is_not_utf_8(self, tmp_path: Path) -> None:
        """A folder whose name could begin no id is refused in words, instead of skipping all of its files."""
        root = tmp_path / os.fsdecode(b"caf\xe9")
        write(root / "a.txt", "a")
        with pytest.raises(ClientError, match="is not UTF-8, and ids begin with it"):
            read_folder(root)

    def test_the_file_under_work_is_told(self, tmp_path: Path) -> None:
        """Every file is named before it is read, and before any of its passages comes."""
        for name in ("a.txt", "b.txt"):
            write(tmp_path / name, f"{BODY}\n\n" * 30)
        told: list[str] = []
        for passage in read_folder(tmp_path, on_file=lambda file: told.append(file.name)):
            assert told[-1] == passage.title
        assert ["a.txt", "b.txt"] == told

    def test_one_file(self, tmp_path: Path) -> None:
        """A file named by the user is read whatever its suffix, by its own name."""
        write(tmp_path / "notes.log", "line")
        assert [Passage("notes.log", "notes.log\n\nline", "notes.log", "notes.log")] == [
            *read_folder(str(tmp_path / "notes.log"))
        ]

    def test_nothing_there(self, tmp_path: Path) -> None:
        """A path that does not exist is refused at once, before the first passage is read."""
        with pytest.raises(ClientError, match=r"nowhere does not exist\. Name a folder or a text file"):
            read_folder(tmp_path / "nowhere")


def test_the_index_itself_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of an index that this process has open is not opened, since its lock would be lost with that."""
    (tmp_path / "note.txt").write_text("words")
    with Index.embedded(tmp_path / "index.txt", type="dense", dimension=1):
        opened: list[Path] = []
        real = Path.open

        def noted(path: Path, *arguments: Any, **keywords: Any) -> Any:
            opened.append(path)
            return real(path, *arguments, **keywords)

        monkeypatch.setattr(Path, "open", noted)
        skipped: list[SkippedFile] = []
        assert ["note.txt\n\nwords"] == [passage.text for passage in read_folder(tmp_path, skipped.append)]
    assert [tmp_path / "note.txt"] == opened
    assert (tmp_path / "index.txt", "an index that is open") in [(each.path, each.reason) for each in skipped]
