"""The texts that the command line indexes: the documentation in every Python install, or a folder of the user's own.

A passage is one unit of retrieval: a few paragraphs that follow each other in one source, under the source's title.
Python files are parsed and never imported, so no code of a source runs.
"""

import ast
import os
import stat
import sysconfig
import tokenize
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from nextk.bodies import MAX_ID_BYTES
from nextk.cli.splitting import split_text, without_title
from nextk.engine.index_file import is_held_here
from nextk.errors import ClientError
from nextk.plain import is_utf8

__all__ = ["Passage", "SkippedFile", "read_folder", "root_name", "standard_library"]

_SHORTEST_DOCSTRING = 50  # shorter ones ("Return the size.") say what their name says
_TEST_FOLDERS = frozenset({"idle_test", "test", "tests"})
_MACHINE_FOLDERS = frozenset({"__pycache__", "node_modules"})
_TEXT_KINDS = (".md", ".py", ".rst", ".txt")
_LARGEST_FILE = 32 * 2**20  # bytes: a file is read at once, and needs several times its size while it is split
_LONGEST_NUMBER = 10  # characters of the `#2` behind the name of a source


@dataclass(frozen=True, slots=True)
class Passage:
    """One unit of retrieval.

    Args:
        id: The id of the passage, unique in its corpus and the same in every run. The first passage of a source has the
            source's name; the later ones have `#2`, `#3` and so on after it.
        text: The title, an empty line, and at most `PASSAGE_LIMIT` characters of the source. The title is in the text
            because a passage from the middle of a source seldom names its subject.
        title: The subject of the source: a dotted name, the heading of a topic or a Markdown file, or a file's path.
        parent: The module, the topic (`topic:` and its name) or the file that the source belongs to.
    """

    id: str
    text: str
    title: str
    parent: str


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that was not read, or a folder that could not be listed.

    Args:
        path: The path of the file or folder.
        reason: The reason in a few words.
        name: The beginning of the ids that its passages have, or would have.
        unreadable: Whether the system did not let us look, so that the text may still be there.
    """

    path: Path
    reason: str
    name: str
    unreadable: bool = False


class _SourceText(NamedTuple):
    name: str
    text: str
    title: str
    parent: str


def standard_library() -> Iterator[Passage]:
    """Read the running Python's documentation: the topics of `help()`, then the docstrings of its library.

    Modules are parsed and never imported. Tests, private definitions, docstrings of fewer than 50 characters, and files
    that do not decode or parse are left out.

    Yields:
        The passages, about 6,000 on CPython 3.11, in the same order in every run.
    """
    yield from _passages(_topics())
    yield from _passages(_docstrings(Path(sysconfig.get_path("stdlib"))))


def read_folder(
    path: Path | str,
    on_skip: Callable[[SkippedFile], None] = lambda _: None,
    on_file: Callable[[Path], None] = lambda _: None,
) -> Iterator[Passage]:
    """Read the text files (`.md`, `.py`, `.rst`, `.txt`) below a folder, or one file of any name.

    Hidden files and folders, `__pycache__`, `node_modules` and links to folders are skipped without a report.

    Args:
        path: The folder, or one file.
        on_skip: A function that is called for every other file that is not read: it is of another kind, is no UTF-8
            text, is larger than 32 MiB, is an index that is open here, is a pipe, a socket or a device, has a path that
            is not UTF-8 or too long for an id, or the system does not let us read it. It is called for folders that
            cannot be listed, too.
        on_file: A function that is called with the path of every file that is going to be read.

    Yields:
        The passages of each file in order; the files come in the order of their names. The id and the parent of a
        passage are the file's path from the folder's own name on, such as `notes/todo.md`, with `/` on every platform.
        The title of a Markdown file is its first `# heading`. The title of any other file, and of a Markdown file
        without a heading, is its path below the folder.

    Raises:
        ClientError: `path` leads to nothing, to something that is neither a folder nor a file, or to something whose
            name is not UTF-8, so that no id could begin with it.
    """
    root = Path(path)
    if not root.exists():
        message = f"{root} does not exist. Name a folder or a text file."
        raise ClientError(message)
    if not (root.is_dir() or root.is_file()):
        message = f"{root} is neither a folder nor a file. Write what it yields to a file, and name that one."
        raise ClientError(message)
    if not is_utf8(root_name(root)):
        message = (
            f"the name of {str(root)!r} is not UTF-8, and ids begin with it. Rename it, or name a folder above it."
        )
        raise ClientError(message)
    return _passages(_FolderReader(root, root_name(root), on_skip, on_file).sources())


def root_name(root: Path | str) -> str:
    """Return the name of a folder or file, with which all ids below it begin, however the path to it is written."""
    return Path(root).resolve().name


def _passages(sources: Iterable[_SourceText]) -> Iterator[Passage]:
    numbers = Counter[str]()  # across sources: a property and its setter share a name, as may a class and a module
    for source in sources:
        for piece in split_text(source.text):
            numbers[source.name] += 1
            number = numbers[source.name]
            name = source.name if number == 1 else f"{source.name}#{number}"
            yield Passage(name, f"{source.title}\n\n{piece}", source.title, source.parent)


def _topics() -> Iterator[_SourceText]:
    try:
        from pydoc_data.topics import topics  # large, and absent from some trimmed installs
    except ImportError:
        return
    names = {text: name for name, text in topics.items()}  # "else" has the text of "if", which comes later
    for text, name in names.items():
        title, _, body = text.partition("\n")
        underline, _, rest = body.partition("\n")
        yield _SourceText(f"topic:{name}", body if underline.strip("*") else rest, title, f"topic:{name}")


def _docstrings(root: Path) -> Iterator[_SourceText]:
    for path in _files(root, lambda folder: folder.isidentifier() and folder not in _TEST_FOLDERS):
        if path.suffix == ".py" and path.stem.isidentifier() and path.is_file():
            *package, name = path.relative_to(root).with_suffix("").parts
            module = ".".join(package if name == "__init__" else [*package, name])
            for title, text in _definitions(_parse(path), module):
                if len(text) >= _SHORTEST_DOCSTRING:
                    yield _SourceText(title, text, title, module)


def _parse(path: Path) -> ast.Module:
    try:
        with tokenize.open(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the library's strings are not the user's concern
            return ast.parse(file.read())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        # Bytes that do not decode are a ValueError; too deep a nesting is either of the last two.
        return ast.Module(body=[], type_ignores=[])


def _definitions(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    """Yield the dotted name and the docstring of each definition in source order, without going into functions."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield name, ast.get_docstring(node) or ""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if not child.name.startswith("_") or child.name.endswith("__"):
                yield from _definitions(child, f"{name}.{child.name}")
        elif isinstance(child, ast.stmt | ast.excepthandler):  # a definition may stand below an if or a try
            yield from _definitions(child, name)


class _NotRead(Exception):
    """The reason why a file is not read."""


@dataclass(frozen=True, slots=True)
class _FolderReader:
    """Reads the texts of a folder, or of one file; `read_folder` and `root_name` describe the fields."""

    root: Path
    name: str
    on_skip: Callable[[SkippedFile], None]
    on_file: Callable[[Path], None]

    def sources(self) -> Iterator[_SourceText]:
        if self.root.is_file():
            yield from self._source(self.root, self.name)
            return
        for path in _files(self.root, on_error=self._skip_folder):
            if path.suffix.lower() in _TEXT_KINDS:
                yield from self._source(path, path.relative_to(self.root).as_posix())
            else:
                self._skip(path, f"not one of {' '.join(_TEXT_KINDS)}")

    def _source(self, path: Path, title: str) -> Iterator[_SourceText]:
        name = self._name(path)
        self.on_file(path)
        try:
            _check_name(name)
            text = _text_of(path)
        except _NotRead as refusal:
            self._skip(path, str(refusal))
        except OSError as error:
            self._skip(path, error.strerror or "unreadable", unreadable=not isinstance(error, FileNotFoundError))
        else:
            heading, body = without_title(text) if path.suffix.lower() == ".md" else ("", text)
            yield _SourceText(name, body, heading or title, name)

    def _skip_folder(self, error: OSError) -> None:
        self._skip(Path(os.fsdecode(error.filename)), error.strerror or "unreadable", unreadable=True)

    def _skip(self, path: Path, reason: str, *, unreadable: bool = False) -> None:
        self.on_skip(SkippedFile(path, reason, self._name(path), unreadable))

    def _name(self, path: Path) -> str:
        return "/".join([self.name, *path.relative_to(self.root).parts])


def _check_name(name: str) -> None:
    """Refuse a file whose passages would get ids that no index can hold.

    Raises:
        _NotRead: The name is not UTF-8, or is too long.
    """
    if not is_utf8(name):
        raise _NotRead("its name is not UTF-8")
    if len(name.encode()) + _LONGEST_NUMBER > MAX_ID_BYTES:
        raise _NotRead("its path is too long for an id")


def _text_of(path: Path) -> str:
    """Read a file.

    Raises:
        _NotRead: The file is nothing that we read.
        OSError: The system does not let us read it.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # to open a pipe would wait for somebody to write to it
        raise _NotRead("not a regular file")
    if is_held_here(path):  # to open and close it would drop the lock of the index
        raise _NotRead("an index that is open")
    if status.st_size > _LARGEST_FILE:
        raise _NotRead(f"larger than {_LARGEST_FILE // 2**20} MiB")
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(_LARGEST_FILE)  # and no more, if the file is growing
    except UnicodeDecodeError as error:
        raise _NotRead("not UTF-8 text") from error
    if "\0" in text:
        raise _NotRead("binary")
    if not text.strip():
        raise _NotRead("empty")
    return text


def _files(
    root: Path,
    enters: Callable[[str], bool] = lambda _folder: True,
    on_error: Callable[[OSError], None] = lambda _: None,
) -> Iterator[Path]:
    """Yield the files of a folder that are not hidden, in the order of names, then those of its folders.

    `os.walk` of Python 3.11 fails at a thousand folders inside each other.
    """
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            files, folders = _listed(folder)
        except OSError as error:
            on_error(error)
            continue
        yield from (folder / name for name in files)
        entered = [name for name in folders if name not in _MACHINE_FOLDERS and enters(name)]
        waiting += (folder / name for name in reversed(entered))


def _listed(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the files and of the folders in a folder, without hidden ones and links to folders.

    Raises:
        OSError: The system does not let us list the folder.
    """
    with os.scandir(folder) as entries:
        seen = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    folders = [entry.name for entry in seen if entry.is_dir(follow_symlinks=False)]
    return [entry.name for entry in seen if not _is_folder(entry)], folders


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """Return whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False
