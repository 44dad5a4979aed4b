"""Where the command line keeps its indexes."""

import os
from pathlib import Path

from nextk.errors import ClientError

LOCATIONS_HELP = """\
Indexes are kept in $NEXTK_HOME, else $XDG_DATA_HOME/nextk, else ~/.local/share/nextk:
demo.nextk is the demo's, default.nextk is what `nextk ingest` fills. Without --index,
`nextk query` and `nextk info` read default.nextk, or demo.nextk as long as there is no other."""
"""For `--help`."""


def home() -> Path:
    """The folder of the indexes that are not named by path."""
    if given := os.environ.get("NEXTK_HOME"):
        return Path(given).expanduser()
    if shared := os.environ.get("XDG_DATA_HOME"):
        return Path(shared) / "nextk"
    return Path("~/.local/share/nextk").expanduser()


def demo_index() -> Path:
    """The file of the demo's index."""
    return home() / "demo.nextk"


def default_index() -> Path:
    """The file that `nextk ingest` fills."""
    return home() / "default.nextk"


def index_to_write(given: Path | None) -> Path:
    """The file of an index that may have to be made; its folder is.

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
    """The file of an index that exists: the one given, else the default one, else the demo's.

    Raises:
        ClientError: There is none.
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
    """Whether there is a file that opening would not fill with a new index."""
    return path.is_dir() or (path.is_file() and path.stat().st_size > 0)
