"""The texts that the command line indexes: the documentation in every Python install, or a folder of the user's own.

A passage is one unit of retrieval: a few paragraphs that follow each other in one source, under the source's title.
Python files are parsed and never imported, so no code of a source runs.
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

from nextk.cli.splitting import split_text, without_title
from nextk.errors import ClientError

__all__ = ["Passage", "read_folder", "root_name", "standard_library"]

_SHORTEST_DOCSTRING = 50  # shorter ones ("Return the size.") say what their name says
_TEST_FOLDERS = frozenset({"idle_test", "test", "tests"})
_MACHINE_FOLDERS = frozenset({"__pycache__", "node_modules"})
_TEXT_KINDS = (".md", ".py", ".rst", ".txt")


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


def read_folder(path: Path | str, on_skip: Callable[[Path, str], None] | None = None) -> Iterator[Passage]:
    """Read the text files (`.md`, `.py`, `.rst`, `.txt`) below a folder, or one file of any name.

    Hidden files and folders, `__pycache__`, `node_modules` and links to folders are skipped without a report.

    Args:
        path: The folder, or one file.
        on_skip: A function that is called for every other file that is not read, with its path and a short reason.

    Yields:
        The passages of each file in order; the files come in the order of their names. The id and the parent of a
        passage are the file's path from the folder's own name on, such as `notes/todo.md`, with `/` on every platform.
        The title of a Markdown file is its first `# heading`. The title of any other file, and of a Markdown file
        without a heading, is its path below the folder.

    Raises:
        ClientError: Nothing exists at `path`.
    """
    root = Path(path)
    if not root.exists():
        message = f"{root} does not exist. Name a folder or a text file."
        raise ClientError(message)
    return _passages(_file_sources(root, on_skip or (lambda _path, _reason: None)))


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
        yield _SourceText(f"topic:{name}", re.sub(r"\A\*+\n", "", body), title, f"topic:{name}")


def _docstrings(root: Path) -> Iterator[_SourceText]:
    for path in _files(root, lambda folder: folder.isidentifier() and folder not in _TEST_FOLDERS):
        if path.suffix == ".py" and path.stem.isidentifier():
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


def _file_sources(root: Path, on_skip: Callable[[Path, str], None]) -> Iterator[_SourceText]:
    name = root_name(root)
    if root.is_file():
        yield from _file_source(root, name, name, on_skip)
        return
    for path in _files(root):
        if path.suffix.lower() in _TEXT_KINDS:
            below = path.relative_to(root).as_posix()
            yield from _file_source(path, f"{name}/{below}", below, on_skip)
        else:
            on_skip(path, f"not one of {' '.join(_TEXT_KINDS)}")


def _file_source(path: Path, name: str, title: str, on_skip: Callable[[Path, str], None]) -> Iterator[_SourceText]:
    try:
        name.encode()
        text = path.read_text("utf-8-sig")
    except OSError as error:
        on_skip(path, error.strerror or "unreadable")
    except UnicodeEncodeError:
        on_skip(path, "its name is not UTF-8")
    except UnicodeDecodeError:
        on_skip(path, "not UTF-8 text")
    else:
        if "\0" in text:
            on_skip(path, "binary")
        elif not text.strip():
            on_skip(path, "empty")
        else:
            heading, body = without_title(text) if path.suffix.lower() == ".md" else ("", text)
            yield _SourceText(name, body, heading or title, name)


def _files(root: Path, enters: Callable[[str], bool] = lambda _folder: True) -> Iterator[Path]:
    """Yield the regular files of a folder that are not hidden, in the order of names, then those of its folders."""
    for folder, folders, files in os.walk(root):
        seen = (name for name in folders if not name.startswith(".") and name not in _MACHINE_FOLDERS)
        folders[:] = sorted(filter(enters, seen))
        for name in sorted(files):
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file():
                yield path
