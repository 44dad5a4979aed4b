"""The blocking client is what `.ci/generate_client.py` makes of the asynchronous one."""

import importlib.util
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from nextk import AsyncIndex, Index
from tests.support.subprocesses import output

SCRIPT = Path(__file__).parent.parent / ".ci" / "generate_client.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script as a module; it is in no package."""
    spec = importlib.util.spec_from_file_location("generate_client", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def package(script: ModuleType, tmp_path: Path) -> Path:
    """A folder with a copy of the files of both clients."""
    for name in (*script.TARGETS, *script.TARGETS.values()):
        shutil.copy(script.PACKAGE / name, tmp_path)
    return tmp_path


def test_the_committed_client_is_the_generated_one() -> None:
    """`--check`, as the gate runs it, has nothing to say."""
    command = [sys.executable, str(SCRIPT), "--check"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own script
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["client.py", "client_records.py"])
def test_a_change_of_one_client_alone_is_noticed(
    script: ModuleType, package: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--check` fails on an edited or missing file and leaves it; without `--check` the file is written anew."""
    target = package / name
    good = target.read_text()
    for text in (good.replace("namespace", "name"), None):
        if text is None:
            target.unlink()
        else:
            target.write_text(text)
        assert script.main(["--check"], package) == 1
        assert capsys.readouterr().err == f"{name} is out of date. Run: python .ci/generate_client.py\n"
        assert (target.read_text() if target.exists() else None) == text
    assert script.main([], package) == 0
    assert target.read_text() == good
    assert script.main(["--check"], package) == 0


def test_a_substitution_that_matches_nothing_is_noticed(
    script: ModuleType, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sources that lost what one substitution replaces are refused, in both modes, and the message names it."""
    sources = {name: (script.PACKAGE / name).read_text() for name in script.TARGETS}
    good = {name: (package / name).read_text() for name in script.TARGETS.values()}
    for text in script.SUBSTITUTIONS:
        for name, source in sources.items():
            (package / name).write_text(re.sub(script._whole_words(text), "something_else ", source))
        for arguments in (["--check"], []):
            assert script.main(arguments, package) == 1
            assert repr(text) in capsys.readouterr().err
        assert {name: (package / name).read_text() for name in good} == good


@pytest.mark.parametrize("name", ["async_client.py", "async_client_records.py"])
def test_what_would_stay_asynchronous_is_refused(script: ModuleType, name: str) -> None:
    """A construct that no substitution knows is an error, not a blocking client with `async` in it."""
    sources = {name: (script.PACKAGE / name).read_text() for name in script.TARGETS}
    sources[name] += "\n\nasync  def strange() -> None:\n    pass\n"
    with pytest.raises(script.GenerationError, match=f"of {script.TARGETS[name]} would still be asynchronous"):
        script.generate(sources)


def test_names_match_as_whole_words_only(script: ModuleType) -> None:
    """A substitution leaves longer words alone, and two names can change places."""
    sources = {"async_client.py": "one = two\ntwofold = one\n"}
    made = script.generate(sources, {"one": "two", "two": "one"})
    assert made == {"client.py": script.HEADER.format("async_client.py") + "two = one\ntwofold = two\n"}


def test_each_client_gives_the_other() -> None:
    """`to_async` and `to_sync` mirror each other, and give a client over the same transport."""
    to_async, to_sync = inspect.signature(Index.to_async), inspect.signature(AsyncIndex.to_sync)
    assert to_async.parameters == to_sync.parameters
    assert (to_async.return_annotation, to_sync.return_annotation) == ("AsyncIndex", "Index")
    words = str(inspect.getdoc(AsyncIndex.to_sync))
    assert words.replace("a blocking", "an asynchronous") == inspect.getdoc(Index.to_async)
    with Index("http://127.0.0.1:9", "token") as index:
        other = index.to_async()
        again = other.to_sync()
        assert (type(other), type(again)) == (AsyncIndex, Index)
        assert index._transport is other._transport is again._transport


def test_the_script_needs_no_package() -> None:
    """The script runs on a bare Python: it imports the standard library alone."""
    code = f"""
import runpy, sys
sys.argv = ["generate_client.py", "--check"]
try:
    runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
except SystemExit as end:
    print(end.code, "nextk" in sys.modules)
"""
    assert output(code) == "0 False"
