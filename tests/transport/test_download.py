"""`nextk backup URL TARGET`: what it does about connections that break, servers that err, and wrong arguments."""

import base64
import hashlib
from pathlib import Path

import pytest

from nextk import Index
from nextk.cli.main import main
from tests.support.scripted_server import HANG_UP, SLAM, TOKEN, Act, ScriptedServer, answer, error, headed, unused_url


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of an index."""
    path = tmp_path_factory.mktemp("source") / "index"
    with Index.embedded(path, type="dense", dimension=1) as index:
        index.upsert([("a", [1.0])])
    return path.read_bytes()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the target, and no token by the environment."""
    for name in ("NEXTK_TOKEN", "UPSTASH_VECTOR_REST_TOKEN", "NEXTK_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def sending(body: bytes, *, digest_of: bytes | None = None, cut: int = 0) -> Act:
    """Send a backup, with the digest of these or of other bytes."""
    digest = base64.b64encode(hashlib.sha256(body if digest_of is None else digest_of).digest()).decode()
    return headed(answer(200, body, "application/vnd.sqlite3", cut=cut), "Content-Digest", f"sha-256=:{digest}:")


def ends(folder: Path, capsys: pytest.CaptureFixture[str], act: Act, *options: str) -> str:
    """Run the command against one reply; it must fail with one line, which is returned, and leave no file."""
    with ScriptedServer(act) as server:
        assert 2 == main(["backup", server.url, str(folder / "copy"), *options])
    out, err = capsys.readouterr()
    assert ("", 1) == (out, err.count("\n"))
    assert [] == list(folder.iterdir())
    return err


@pytest.mark.parametrize("cut", [1, 4_096, 10_000])
def test_a_connection_that_breaks_leaves_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], content: bytes, cut: int
) -> None:
    """A backup of which the end is missing is no file, and the error says so."""
    assert "has not arrived" in ends(folder, capsys, sending(content, cut=cut))


@pytest.mark.parametrize("act", [HANG_UP, SLAM], ids=["after the request", "at once"])
def test_a_server_that_hangs_up(folder: Path, capsys: pytest.CaptureFixture[str], act: Act) -> None:
    """A server that does not answer at all is named."""
    assert "the backup of http://127.0.0.1:" in ends(folder, capsys, act)


def test_no_server(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where nobody listens there is no backup."""
    assert 2 == main(["backup", unused_url(), str(folder / "copy")])
    assert "Nothing was kept" in capsys.readouterr().err
    assert [] == list(folder.iterdir())


def test_a_byte_that_was_changed_on_its_way_is_noticed(
    folder: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    """The digest that the server has sent has to fit what has arrived."""
    changed = content[:-1] + bytes([content[-1] ^ 1])
    assert "was changed or cut short" in ends(folder, capsys, sending(changed, digest_of=content))


@pytest.mark.parametrize("body", [b"", b"x" * 10_000, b"SQLite format 3\0" + b"x" * 10_000], ids=len)
def test_what_is_no_index_is_not_kept(folder: Path, capsys: pytest.CaptureFixture[str], body: bytes) -> None:
    """What arrives whole, but is no index, is refused by the check of its file."""
    assert "the index at http://127.0.0.1:" in ends(folder, capsys, sending(body))


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (answer(200, b"<html>", "text/html"), "sends no backup with its size and digest"),
        (headed(answer(200, b"x"), "Content-Digest", "sha-256=:=:"), "sends no backup with its size and digest"),
        (headed(sending(b"x"), "Content-Encoding", "gzip"), "sends no backup with its size and digest"),
        (answer(302, b""), "has answered with the status 302, and not as `nextk serve` does"),
        (answer(502, b"<html>", "text/html"), "has answered with the status 502"),
        (answer(500, b'["error"]'), "has answered with the status 500"),
        (answer(404, b"x" * 1_000_000), "has answered with the status 404"),
        (error(404, "Not found: /backup"), "nextk: Not found: /backup"),
        (error(401, "Unauthorized: Invalid auth token"), "nextk: Unauthorized: Invalid auth token"),
        (error(503, "A backup is under way already"), "nextk: A backup is under way already"),
    ],
)
def test_a_reply_that_is_no_backup(folder: Path, capsys: pytest.CaptureFixture[str], act: Act, words: str) -> None:
    """A refusal is shown in the server's words, and what another service says is not taken for a backup."""
    assert words in ends(folder, capsys, act)


@pytest.mark.parametrize(
    ("options", "environment", "sent"),
    [
        ([], {}, None),
        (["--token", TOKEN], {"NEXTK_TOKEN": "other"}, TOKEN),
        ([], {"NEXTK_TOKEN": TOKEN, "UPSTASH_VECTOR_REST_TOKEN": "other"}, TOKEN),
        ([], {"NEXTK_TOKEN": "", "UPSTASH_VECTOR_REST_TOKEN": TOKEN}, TOKEN),
    ],
)
def test_the_token_comes_from_the_argument_or_the_environment(
    folder: Path,
    content: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    environment: dict[str, str],
    sent: str | None,
) -> None:
    """The argument wins over both variables, a server without a token is sent none, and no token is printed."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with ScriptedServer(sending(content)) as server:
        assert 0 == main(["backup", f"{server.url}/", str(folder / "copy"), *options])
        [request] = server.seen
    assert "/backup" == request.path
    assert (None if sent is None else f"Bearer {sent}") == request.headers.get("authorization")
    out, err = capsys.readouterr()
    assert out.startswith("copied 1 record (")
    assert TOKEN not in out + err
    with Index.embedded(folder / "copy") as copy:
        assert ["a"] == [match.id for match in copy.query([1.0])]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["http://127.0.0.1:1"], "name the file to make, too: nextk backup http://... TARGET"),
        (["http://127.0.0.1:1", "copy", "--index", "x"], "not both"),
        (["127.0.0.1:1", "copy"], "URL is not the URL of an index: it has to begin with https:// or http://"),
        (["http://user:secret@127.0.0.1:1", "copy"], "it holds a user or a password"),
        (["http://127.0.0.1:1", "copy", "--token", "secret\n"], "--token is not a token"),
        (["http://127.0.0.1:1", "absent/copy"], "does not exist; make it first"),
        (["http://127.0.0.1:1", "."], "is a folder"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    """A mistake gets one line that shows no secret."""
    monkeypatch.chdir(folder)
    assert 2 == main(["backup", *arguments])
    err = capsys.readouterr().err
    assert words in err
    assert "secret" not in err
    assert [] == list(folder.iterdir())


def test_a_backup_of_before_is_kept_unless_told(
    folder: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that exists is not replaced without `--overwrite`, and if the new backup fails not with it either."""
    (folder / "copy").write_bytes(content)
    command = ["backup", str(folder / "copy")]
    with ScriptedServer(sending(content, cut=1), sending(content)) as server:
        command.insert(1, server.url)
        assert 2 == main(command)
        assert "--overwrite" in capsys.readouterr().err
        assert [] == server.seen
        assert 2 == main([*command, "--overwrite"])
        assert content == (folder / "copy").read_bytes()
        assert 0 == main([*command, "--overwrite"])
    assert ["copy"] == [path.name for path in folder.iterdir()]
