"""The folder and the files in which the command line keeps its indexes."""

import os
from pathlib import Path

from nextk.errors import ClientError
from nextk.extras import require

LOCATIONS_HELP = """\
Indexes are kept in $NEXTK_HOME, or if it is not set in the user's data folder, which on Linux is
$XDG_DATA_HOME/nextk or ~/.local/share/nextk. `nextk demo` fills demo.nextk, and `nextk ingest`
fills default.nextk. Without --index, `nextk query`, `nextk info` and `nextk backup` read
default.nextk, or demo.nextk if there is no default.nextk."""
"""The paragraph about locations at the end of each command's `--help`."""


def home() -> Path:
    """Return the folder of the indexes that are not named by path: `NEXTK_HOME`, or the user's data folder.

    Raises:
        MissingExtraError: `NEXTK_HOME` is not set, and platformdirs is not installed.
    """
    if given := os.environ.get("NEXTK_HOME"):
        return Path(given).expanduser()
    return Path(require("platformdirs", extra="local").user_data_dir("nextk", appauthor=False))


def demo_index() -> Path:
    """Return the file of the demo's index."""
    return home() / "demo.nextk"


def default_index() -> Path:
    """Return the file that `nextk ingest` fills."""
    return home() / "default.nextk"


def index_to_write(given: Path | None) -> Path:
    """Return the file of an index that a command writes to, and make its folder if it does not exist.

    Args:
        given: The file that the user named; `None` takes the default index.

    Raises:
        ClientError: The folder cannot be made.
    """
    path = given or default_index()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot make the folder {path.parent}: {error.strerror}"
        raise ClientError(message) from error
    return path


def index_to_read(given: Path | None) -> Path:
    """Return the file of an index that exists.

    Args:
        given: The file that the user named; `None` takes the default index, or the demo's if there is no default one.

    Raises:
        ClientError: There is no such index.
    """
    if given is not None:
        if not holds_something(given):
            message = f"there is no index at {given}"
            raise ClientError(message)
        return given
    for path in (default_index(), demo_index()):
        if holds_something(path):
            return path
    message = "there is no index yet: run `nextk demo`, or `nextk ingest PATH` for texts of your own"
    raise ClientError(message)


def holds_something(path: Path) -> bool:
    """Return whether there is something at a path already, so that opening it would not make a new index."""
    return path.is_dir() or (path.is_file() and path.stat().st_size > 0)
