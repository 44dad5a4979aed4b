"""`nextk check`: it finds every damage, changes nothing, and saves what is whole."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nextk import Index
from nextk.cli.main import main
from nextk.engine.check import open_file
from nextk.engine.rescue import rescue
from nextk.errors import ClientError
from nextk.types import Data, FetchResult
from tests.support import format_one
from tests.support.damaged_files import change
from tests.support.format_one import OldRecord
from tests.support.subprocesses import python

HOLD = """
import sys
from nextk import Index
with Index.embedded(sys.argv[1]) as index:
    print("open", flush=True)
    sys.stdin.readline()
"""

LEAVE = """
import os, signal, sys
from nextk import Index
index = Index.embedded(sys.argv[1])
index.upsert([("late", [0.5, 0.5], {"n": 9}, "late text")], "de")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is wrapped."""
    monkeypatch.setenv("COLUMNS", "500")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of an index of five records in each of two namespaces, with one record deleted."""
    path = tmp_path / "notes.nextk"
    with Index.embedded(path, type="dense", dimension=2, weighting="none") as index:
        for namespace in ("", "de"):
            index.upsert([(id_, [1.0, n], {"n": n}, f"text {id_}") for n, id_ in enumerate("abcdef")], namespace)
            index.delete("f", namespace)
    return path


def content(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file in a folder."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def checked(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[str]]:
    """Run the command, and return its exit code and its lines."""
    code = main(["check", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, (out + err).splitlines()


def everything(path: Path) -> Iterator[tuple[str, str, list[FetchResult]]]:
    """Yield each namespace with the next cursor of a range that is short by one record, and all of its records."""
    with Index.embedded(path) as index:
        for namespace in index.list_namespaces():
            found = index.range("", 99, True, True, namespace, True).vectors
            cursor = index.range("", max(1, len(found) - 1), namespace=namespace).next_cursor
            yield namespace, cursor, found


def test_a_whole_file(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is whole is said to be so, with exit code 0, and nothing changes beside it either."""
    before = content(path.parent)
    assert (0, [f"10 records whole in {path}"]) == checked(capsys, path)
    assert before == content(path.parent)


def test_no_model_is_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An index that was made with a model of one's own is checked, and rescued, without it."""
    path, new = tmp_path / "own.nextk", tmp_path / "new.nextk"
    with Index.embedded(path, embedding=lambda texts: [[1.0, len(text)] for text in texts], type="dense") as index:
        index.upsert([Data("a", "text")])
    code, said = checked(capsys, path, "--rescue", new)
    assert (0, f"1 record whole in {path}") == (code, said[0])
    with Index.embedded(new, embedding=lambda texts: [[1.0, len(text)] for text in texts], same_model=True) as index:
        assert ["a"] == [match.id for match in index.query(data="text")]


def test_damaged_records_are_named(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The damaged ids are named by their namespaces, with exit code 1, and the way out; nothing is changed."""
    change(path, "UPDATE records SET data = 'other' WHERE namespace = 2 AND id IN ('b', 'd')")
    change(path, "UPDATE metadata SET json = '{' WHERE row = 3")
    before = content(path.parent)
    code, said = checked(capsys, path)
    assert code == 1
    assert said[:4] == [
        f"7 records whole in {path}",
        "1 record damaged: 'c'",
        "2 records damaged in the namespace 'de': 'b', 'd'",
        f"nextk check {path} --rescue NEW",
    ]
    assert before == content(path.parent)


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("DELETE FROM metadata WHERE row = 3", "1 record without a row of metadata"),
        ("INSERT INTO metadata VALUES (99, '{}')", "1 record whose row of metadata alone is left"),
        ("UPDATE namespaces SET next_number = 3 WHERE key = 1", "3 records with a number that is still to be given"),
        ("UPDATE records SET number = 1 WHERE row = 3", "1 record with the number of another record"),
        ("DELETE FROM namespaces WHERE key = 2", "5 records of no namespace"),
        ("UPDATE properties SET value = 'x' WHERE name = 'id'", "its properties do not match their checksum"),
        (
            "UPDATE namespaces SET name = 'it' WHERE key = 2",
            "the namespace 'it' does not match its checksum",
        ),
        ("PRAGMA user_version = 6", "the header names another application or format"),
        ("PRAGMA application_id = 6", "the header names another application or format"),
    ],
)
def test_the_rest_of_the_file(path: Path, statement: str, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Tables that do not fit together are reported as well, with exit code 1."""
    change(path, statement)
    code, said = checked(capsys, path)
    assert (1, True) == (code, any(line.startswith(f"the file: {complaint}") for line in said))


def test_rescue(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The new file has the schema, the id, the namespaces, and the whole records in their order; cursors stay good."""
    expected = [(name, cursor, [each for each in found if each.id != "b"]) for name, cursor, found in everything(path)]
    with Index.embedded(path) as index:
        identity, info = index._transport.identity, index.info()
    change(path, "UPDATE records SET data = 'other' WHERE id = 'b'")
    before = path.read_bytes()
    new = tmp_path / "new.nextk"
    code, said = checked(capsys, path, "--rescue", new)
    assert (1, ["8 records copied to " + str(new), "2 records lost"]) == (code, said[-2:])
    assert before == path.read_bytes()
    assert expected == list(everything(new))
    assert (0, [f"8 records whole in {new}"]) == checked(capsys, new)
    with Index.embedded(new) as index:
        assert (identity, info.weighting, info.dimension) == (index._transport.identity, "NONE", 2)
        index.upsert([("g", [1.0, 0.0])])
        assert ["g"] == [record.id for record in index.range("6", 9).vectors]  # 6 was given to a deleted record


def test_rescue_from_damaged_pages(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where whole pages are destroyed, the records on all the others are saved."""
    with Index.embedded(path) as index:
        index.upsert([(f"x{n}", [1.0, n], {"n": n}, "x" * 1_000) for n in range(60)])
    pages = path.read_bytes()
    middle = pages.index(b"text e") // 4_096 + 5
    path.write_bytes(pages[: middle * 4_096] + bytes(4_096) + pages[(middle + 1) * 4_096 :])
    new = tmp_path / "new.nextk"
    code, said = checked(capsys, path, "--rescue", new)
    assert code == 1
    saved = {record.id for _, _, found in everything(new) for record in found}
    lost = {f"x{n}" for n in range(60)} - saved
    assert set("abcde") <= saved
    assert 1 <= len(lost) <= 4
    assert all(repr(id_) in "".join(said) for id_ in lost)


def test_rescue_names_what_lost_its_name(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The records of a namespace whose name is lost are saved in one whose name says so."""
    change(path, "DELETE FROM namespaces")
    new = tmp_path / "new.nextk"
    assert 1 == checked(capsys, path, "--rescue", new)[0]
    assert [("", 5), ("rescued-2", 5)] == [(name, len(found)) for name, _, found in everything(new)]


@pytest.mark.parametrize("taken", ["itself", "a file", "a broken link"])
def test_rescue_overwrites_nothing(path: Path, tmp_path: Path, taken: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A new file is refused where there is something already, before any work is done."""
    new = path if taken == "itself" else tmp_path / "new.nextk"
    if taken == "a file":
        new.write_text("precious")
    elif taken == "a broken link":
        new.symlink_to(tmp_path / "nowhere")
    before = content(path.parent) if taken != "a broken link" else None
    code, said = checked(capsys, path, "--rescue", new)
    assert (2, [f"nextk: there is something at {new} already: name a file that does not exist"]) == (code, said)
    assert before is None or before == content(path.parent)


def test_rescue_leaves_alone_what_appears_meanwhile(path: Path, tmp_path: Path) -> None:
    """An index that another process makes at the path during a rescue stays as it is, and that is said."""
    new = tmp_path / "new.nextk"

    def appear(_: int) -> None:
        new.write_bytes(b"of another process")

    with open_file(path) as file, pytest.raises(ClientError, match="name a file that does not exist"):
        rescue(file, new, appear)
    assert b"of another process" == new.read_bytes()
    assert {path.name, new.name} == set(content(tmp_path))


def test_rescue_gives_the_name_to_a_whole_file_only(path: Path, tmp_path: Path) -> None:
    """While records are copied there is nothing at the path, so that a killed rescue leaves no empty index there."""
    new, seen = tmp_path / "new.nextk", list[bool]()
    with open_file(path) as file:
        assert 10 == rescue(file, new, lambda _: seen.append(new.exists()))
    assert {False} == set(seen)
    assert {path.name, new.name} == set(content(tmp_path))


def test_an_unreadable_schema_is_not_rescued(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without its schema an index cannot be made anew: this is said, and no file is left behind."""
    change(path, "UPDATE properties SET value = '{' WHERE name = 'schema'")
    new = tmp_path / "new.nextk"
    code, said = checked(capsys, path, "--rescue", new)
    assert (2, True) == (code, "the schema of the index is damaged beyond reading" in said[-1])
    assert not new.exists()


def test_a_held_file(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that another process has open is not checked, because it may change meanwhile."""
    with python(HOLD, path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        before = content(path.parent).keys()
        code, said = checked(capsys, path)
        assert before == content(path.parent).keys()
        process.kill()
    assert (2, [f"nextk: {path} is held by another process: end it first, then check the file"]) == (code, said)


def test_writes_that_a_killed_process_left(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Writes that a killed process has left in the journal are checked with the rest, and stay where they are."""
    with python(LEAVE, path) as process:
        process.communicate()
    before = content(path.parent)
    assert path.name + "-wal" in before
    assert (0, [f"11 records whole in {path}"]) == checked(capsys, path)
    assert before == content(path.parent)


def test_files_that_have_no_checksums(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of format 1, a file of another kind, and no file are each refused in words."""
    old, other = tmp_path / "old", tmp_path / "other"
    format_one.write(old, [OldRecord("", "a", [1.0, 0.0])])
    other.write_text("a shopping list\n" * 500)
    for path, words in (
        (old, f"{old} has format 1, which has no checksums. To convert it, open it, as with: nextk info --index {old}"),
        (other, f"{other} is not a nextk index: file is not a database"),
        (tmp_path / "none", f"there is no index at {tmp_path / 'none'}"),
        (tmp_path, f"{tmp_path} is a folder: name the file of an index"),
    ):
        assert (2, [f"nextk: {words}"]) == checked(capsys, path)


def test_a_file_that_is_cut_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Records in the pages that are left of a file are saved."""
    path, new = tmp_path / "notes.nextk", tmp_path / "new.nextk"
    with Index.embedded(path, type="dense", dimension=1) as index:
        index.upsert([(f"a{number}", [1.0], {"n": number}, "x" * 900) for number in range(100)])
    os.truncate(path, path.stat().st_size - 4096)
    assert 1 == main(["check", str(path), "--rescue", str(new)])
    capsys.readouterr()
    with Index.embedded(new) as index:
        found = index.range("", 1_000, include_metadata=True, include_data=True).vectors
    assert 50 < len(found) < 100
    assert all((record.metadata, record.data) == ({"n": int(record.id[1:])}, "x" * 900) for record in found)
