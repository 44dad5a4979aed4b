"""Read the text files below a folder (.md .py .rst .txt), or one file, into an index on disk."""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nextk.cli.locations import LOCATIONS_HELP, index_to_write
from nextk.extras import require

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from nextk.cli.corpus import Passage, SkippedFile
    from nextk.client import Index

SUMMARY = "read a folder of texts into an index"

_IDS = """\
Ids begin with the folder's own name, as in notes/todo.md. Reading a folder again replaces its
records, and removes those whose text is no longer there. Two folders of the same name need an
--index or a --namespace each.

An interrupted command keeps what it has stored; run again, it replaces that and stores the rest.
Files of more than 32 MiB are skipped."""
_NAMED = 5  # skipped files that are named for each reason
_WIDEST_NAME = 40  # characters of the file's name beside the progress bar
_SILENCE = 10.0  # seconds between two lines about the progress where no terminal can show a bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("path", metavar="PATH", type=Path, help="a folder, or one text file")
    parser.add_argument("--index", metavar="FILE", type=Path, help="the index, made if absent (default: default.nextk)")
    parser.add_argument("--namespace", default="", metavar="NAME", help="the namespace of the index to write to")
    parser.epilog = f"{LOCATIONS_HELP}\n\n{_IDS}"


def run(arguments: argparse.Namespace) -> int:
    """Read, embed and store the texts, then print the number of passages, and the skipped files with the reasons."""
    require("rich", extra="local")
    from nextk.cli import screen
    from nextk.cli.corpus import read_folder
    from nextk.cli.writing import MODELS
    from nextk.client import Index

    ingestion = Ingestion(arguments.path, arguments.namespace)
    passages = read_folder(arguments.path, ingestion.skipped.append, ingestion.reads)
    path = index_to_write(arguments.index)
    started = time.perf_counter()
    try:
        with Index.embedded(path, **({} if path.exists() else MODELS)) as index:
            gone = ingestion.fill(index, passages)
    except BaseException as error:
        if ingestion.begun:
            error.add_note(ingestion.kept(path))
        raise
    out = screen.Screen()
    out.say(
        (_counted(ingestion.passages, "passage"), "bold"),
        f" into {screen.short_path(path)} in {time.perf_counter() - started:.1f} s",
        f", {gone:,} outdated removed" if gone else "",
    )
    for reason, files in ingestion.skipped_by_reason(path).items():
        out.say((f"skipped {len(files):,} ({reason}): {_names(files, arguments.path)}", "dim"))
    if ingestion.passages:
        out.copyable(
            'nextk query "what to look for"' + (f" --index {shlex.quote(str(path))}" if arguments.index else "")
        )
    return 0


@dataclass
class Ingestion:
    """The progress of reading a folder into an index, for the progress bar and for whoever interrupts it.

    Args:
        root: The folder, or the one file.
        namespace: The namespace that is written to.

    Attributes:
        begun: Whether something may have been written.
        passages: The number of passages that are on disk.
        files: The names of the files whose passages are on disk, at least in part.
        skipped: The files that were not read.
    """

    root: Path
    namespace: str
    begun: bool = False
    passages: int = 0
    files: set[str] = field(default_factory=set)
    skipped: "list[SkippedFile]" = field(default_factory=list)
    _file: Path | None = None  # the one that was read last
    _bar: "Progress | None" = None
    _task: "TaskID | None" = None
    _told: float = field(default_factory=time.monotonic)

    def fill(self, index: "Index", passages: "Iterable[Passage]") -> int:
        """Store the passages, and remove those of the same root that are outdated. Returns how many were removed.

        Args:
            index: The index to write to.
            passages: The passages. They are read while they are being stored.
        """
        from nextk.cli.corpus import root_name
        from nextk.cli.screen import progress
        from nextk.cli.writing import fill, ids_of_root, remove

        # The bytes of a path that are not UTF-8 are written as \xff, because an index holds nothing but text.
        root = os.fsencode(self.root.resolve()).decode("utf-8", "backslashreplace")
        before = ids_of_root(index, root, root_name(self.root), namespace=self.namespace)
        self.begun = True
        with progress() as self._bar:
            self._task = self._bar.add_task("reading and embedding", total=None)
            ids = fill(index, passages, namespace=self.namespace, root=root, on_stored=self._stored)
        unread = {skipped.name for skipped in self.skipped if skipped.unreadable}
        outdated = {each for each in before - ids if not _is_of(each, unread)}
        remove(index, outdated, namespace=self.namespace)
        return len(outdated)

    def reads(self, file: Path) -> None:
        """Show which file is going to be read: in the progress bar or, without a terminal, in a line now and then.

        Args:
            file: The file.
        """
        from nextk.cli.screen import one_line

        self._file = file
        if self._bar is None or self._task is None:
            return
        name = one_line(_below(file, self.root))
        shown = name if len(name) <= _WIDEST_NAME else f"…{name[1 - _WIDEST_NAME :]}"
        self._bar.update(self._task, description=shown)
        if self._bar.disable and time.monotonic() - self._told >= _SILENCE:
            self._told = time.monotonic()
            sys.stderr.write(f"nextk: {_counted(self.passages, 'passage')} stored, reading {name}\n")

    def _stored(self, batch: "Sequence[Passage]") -> None:
        self.passages += len(batch)
        self.files.update(passage.parent for passage in batch)
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, len(batch))

    def kept(self, index_path: Path) -> str:
        """Say what is in the index although the command did not get to its end, and how to go on.

        Args:
            index_path: The file of the index.
        """
        from nextk.cli.screen import one_line, short_path

        last = f"The last file was {one_line(_below(self._file, self.root))}. " if self._file else ""
        if not self.passages:
            return f"{last}Nothing is stored yet. Run the command again to start anew"
        stored = f"{_counted(self.passages, 'passage')} of {_counted(len(self.files), 'file')}"
        return (
            f"{last}Stored in {short_path(index_path)}: {stored}. "
            "Run the command again: it replaces them and stores the rest"
        )

    def skipped_by_reason(self, index_path: Path) -> dict[str, list[Path]]:
        """Return the files that were not read, grouped by the reason. The files of the index itself are left out.

        Args:
            index_path: The file of the index.
        """
        by_reason: dict[str, list[Path]] = {}
        for each in self.skipped:
            if not (each.path.name.startswith(index_path.name) and _same_folder(each.path, index_path)):
                by_reason.setdefault(each.reason, []).append(each.path)
        return by_reason


def _is_of(passage_id: str, names: set[str]) -> bool:
    """Return whether a passage belongs to one of some files, or to a file below one of some folders."""
    ends = (end for end, character in enumerate(f"{passage_id}/") if character in "/#")
    return bool(names) and any(passage_id[:end] in names for end in ends)


def _same_folder(file: Path, other: Path) -> bool:
    return file.resolve().parent == other.resolve().parent


def _below(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file != root else file.name


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _names(files: Sequence[Path], root: Path) -> str:
    """Name the first few files by their paths below the root, and say how many more there are."""
    from nextk.cli.screen import one_line

    names = [one_line(_below(file, root)) for file in files[:_NAMED]]
    return ", ".join(names) + (f" and {len(files) - _NAMED:,} more" if len(files) > _NAMED else "")
