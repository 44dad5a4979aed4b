"""The texts that the command line indexes: what every Python install carries, or a folder of the user's own.

A passage is one unit of retrieval: a few paragraphs that follow each other in one source, under the source's title.
Nothing here imports what it reads: the standard library is parsed, never run.
"""

import ast
import os
import re
import sysconfig
import tokenize
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from nextk.errors import ClientError

__all__ = ["PASSAGE_LIMIT", "Passage", "read_folder", "split_text", "standard_library"]

PASSAGE_LIMIT = 1_200
"""The most characters of a source in one passage: about 200 words, little enough to be about one thing."""

_SHORTEST_DOCSTRING = 50  # shorter ones ("Return the size.") say what their name says
_TEST_FOLDERS = frozenset({"idle_test", "test", "tests"})
_MACHINE_FOLDERS = frozenset({"__pycache__", "node_modules"})
_TEXT_KINDS = (".md", ".py", ".rst", ".txt")


@dataclass(frozen=True, slots=True)
class Passage:
    """One unit of retrieval.

    Args:
        id: Unique in its corpus and the same in every run: the source's name, from its second passage on with `#2`,
            `#3` and so forth.
        text: The title, a blank line, and at most `PASSAGE_LIMIT` characters of the source. The title is in the text
            because a passage from the middle of a source seldom names its subject.
        title: What the source is about: a dotted name, a topic's heading or a file's path.
        parent: Where the source belongs: its module, its topic (`topic:` and the name) or its file.
    """

    id: str
    text: str
    title: str
    parent: str


class _Source(NamedTuple):
    name: str
    text: str
    title: str
    parent: str


def standard_library() -> Iterator[Passage]:
    """Read the running Python's documentation: the topics of `help()`, then the docstrings of its library.

    Modules are parsed and never imported. Tests, private definitions, docstrings below 50 characters, and files that do
    not decode or parse are left out.

    Yields:
        About 6,000 passages on CPython 3.11, in the same order in every run.
    """
    yield from _passages(_topics())
    yield from _passages(_docstrings(Path(sysconfig.get_path("stdlib"))))


def read_folder(path: Path | str, on_skip: Callable[[Path, str], None] | None = None) -> Iterator[Passage]:
    """Read the text files (`.md`, `.py`, `.rst`, `.txt`) below a folder, or one file of any name.

    Hidden files and folders, `__pycache__`, `node_modules` and links to folders are passed over in silence.

    Args:
        path: A folder, or one file.
        on_skip: Called with every other file that was not read, and the reason in a few words.

    Yields:
        The passages of each file in order, files by name. Title and parent are the file's path below the folder, with
        `/` on every platform.

    Raises:
        ClientError: Nothing exists at `path`.
    """
    root = Path(path)
    if not root.exists():
        message = f"{root} does not exist. Name a folder or a text file."
        raise ClientError(message)
    return _passages(_file_sources(root, on_skip or (lambda _path, _reason: None)))


def split_text(text: str, limit: int = PASSAGE_LIMIT) -> list[str]:
    """Split at blank lines, and where a paragraph is too long, between its lines, words and at last characters.

    Neighbours are merged again while they fit.

    Args:
        text: Any text. A run of blank lines counts as one.
        limit: The most characters of a piece, at least 1.

    Returns:
        The pieces in order; none for a blank text.
    """
    paragraphs = re.sub(r"\n\s*\n", "\n\n", text).strip()
    return _split(paragraphs, limit, ("\n\n", "\n", " ")) if paragraphs else []


def _split(text: str, limit: int, borders: tuple[str, ...]) -> list[str]:
    if len(text) <= limit:
        return [text]
    if not borders:
        return [text[start : start + limit] for start in range(0, len(text), limit)]
    border, finer = borders[0], borders[1:]
    merged: list[str] = []
    for part in text.split(border):
        for piece in _split(part, limit, finer):
            if merged and len(merged[-1]) + len(border) + len(piece) <= limit:
                merged[-1] += border + piece
            else:
                merged.append(piece)
    return [piece for piece in merged if piece and not piece.isspace()]


def _passages(sources: Iterable[_Source]) -> Iterator[Passage]:
    numbers = Counter[str]()  # across sources: a property and its setter share a name, as may a class and a module
    for source in sources:
        for piece in split_text(source.text):
            numbers[source.name] += 1
            number = numbers[source.name]
            name = source.name if number == 1 else f"{source.name}#{number}"
            yield Passage(name, f"{source.title}\n\n{piece}", source.title, source.parent)


def _topics() -> Iterator[_Source]:
    try:
        from pydoc_data.topics import topics  # large, and absent from some trimmed installs
    except ImportError:
        return
    names = {text: name for name, text in topics.items()}  # "else" has the text of "if", which comes later
    for text, name in names.items():
        title, _, body = text.partition("\n")
        yield _Source(f"topic:{name}", re.sub(r"\A\*+\n", "", body), title, f"topic:{name}")


def _docstrings(root: Path) -> Iterator[_Source]:
    for path in _files(root, lambda folder: folder.isidentifier() and folder not in _TEST_FOLDERS):
        if path.suffix == ".py" and path.stem.isidentifier():
            *package, name = path.relative_to(root).with_suffix("").parts
            module = ".".join(package if name == "__init__" else [*package, name])
            for title, text in _definitions(_parse(path), module):
                if len(text) >= _SHORTEST_DOCSTRING:
                    yield _Source(title, text, title, module)


def _parse(path: Path) -> ast.Module:
    try:
        with tokenize.open(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the library's strings are not the user's concern
            return ast.parse(file.read())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        # Bytes that do not decode are a ValueError; too deep a nesting is either of the last two.
        return ast.Module(body=[], type_ignores=[])


def _definitions(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    """Walk a module: each dotted name and its docstring, in the order of the source; not into functions."""
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


def _file_sources(root: Path, on_skip: Callable[[Path, str], None]) -> Iterator[_Source]:
    if root.is_file():
        yield from _file_source(root, root.name, on_skip)
        return
    for path in _files(root):
        if path.suffix.lower() in _TEXT_KINDS:
            yield from _file_source(path, path.relative_to(root).as_posix(), on_skip)
        else:
            on_skip(path, f"not one of {' '.join(_TEXT_KINDS)}")


def _file_source(path: Path, name: str, on_skip: Callable[[Path, str], None]) -> Iterator[_Source]:
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        on_skip(path, error.strerror or "unreadable")
    except UnicodeDecodeError:
        on_skip(path, "not UTF-8 text")
    else:
        if "\0" in text:
            on_skip(path, "binary")
        else:
            yield _Source(name, text, name, name)


def _files(root: Path, enters: Callable[[str], bool] = lambda _folder: True) -> Iterator[Path]:
    """Walk a folder in the order of names: its regular files, hidden ones excepted, then those of its folders."""
    for folder, folders, files in os.walk(root):
        seen = (name for name in folders if not name.startswith(".") and name not in _MACHINE_FOLDERS)
        folders[:] = sorted(filter(enters, seen))
        for name in sorted(files):
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file():
                yield path
