"""The conventions that no linter checks: sizes, names, public modules, and the words of the documentation."""

import ast
import dataclasses
import importlib
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pydantic

import nextk

ROOT = Path(nextk.__file__).parent
REPOSITORY = Path(__file__).parent.parent
SOURCES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(text) for name, text in SOURCES.items()}

MAX_FILE = 400
MAX_BODY = 40

PUBLIC_MODULES = [
    "nextk",
    "nextk.errors",
    "nextk.handle",
    "nextk.langchain",
    "nextk.langchain.agents",
    "nextk.llama_index",
    "nextk.llama_index.agents",
    "nextk.server.app",
    "nextk.sessions",
    "nextk.stores",
    "nextk.stores.postgres",
    "nextk.stores.qdrant",
    "nextk.testing",
    "nextk.testing.server",
    "nextk.types",
    "nextk.until",
]
"""Everything else is private. README has the same list."""

SHARED_INSIDE = {"nextk.server.app.sweep", "nextk.types.UntilFirstFault"}
"""Names of public modules that only other modules of the package use."""

TWINS = {
    "Embedder": "what embeds a question, for each framework's embedding class",
    "ResumableRetriever": "the retriever of each framework",
    "ResumableVectorStore": "the vector store of each framework",
    "VectorStoreSource": "any vector store of each framework as a source",
    "Writing": "the methods that write, for each framework's record class",
}
"""The type names that two files may define, and why. A leading underscore makes no difference."""

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
RETIRED_OPENING = re.compile(r"(What|The same|Likewise|As for|Whose|Whether it)\b")
ENTRY = re.compile(r"^ +\*{0,2}(\w+)(?: \([^)]*\))?:", re.MULTILINE)


def test_sizes() -> None:
    """No file is longer than 400 lines, and no body of a function longer than 40."""
    found = [f"{name}: {len(text.splitlines())} lines" for name, text in SOURCES.items()]
    assert [] == [each for each, text in zip(found, SOURCES.values(), strict=True) if len(text.splitlines()) > MAX_FILE]
    functions = (
        (name, node)
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    sizes = [(f"{name}:{node.lineno} {node.name}", body_size(node)) for name, node in functions]
    assert [] == [(function, size) for function, size in sizes if size > MAX_BODY]


def body_size(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The number of lines of a function without its signature and its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_one_name_for_one_type() -> None:
    """No type name is defined in two files, except for the list of twins."""
    files: dict[str, set[str]] = defaultdict(set)
    for name, tree in TREES.items():
        for type_name in type_names(tree):
            files[type_name.lstrip("_")].add(name)
    twice = {type_name: sorted(names) for type_name, names in files.items() if len(names) > 1}
    assert {} == {type_name: names for type_name, names in twice.items() if type_name not in TWINS}
    assert set() == TWINS.keys() - twice.keys(), "these are twins no longer"


def type_names(tree: ast.Module) -> Iterator[str]:
    """The classes of a file, wherever they are defined, and its type aliases; type variables are left out."""
    yield from (node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and "TypeAlias" in ast.unparse(node.annotation):
            yield ast.unparse(node.target)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript | ast.BinOp):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            yield from (name for name in names if name.lstrip("_")[:1].isupper() and not name.isupper())


def test_the_list_of_public_modules() -> None:
    """Each public module has a sorted `__all__` that names whatever is public in it; README lists the same modules."""
    assert sorted(PUBLIC_MODULES) == PUBLIC_MODULES
    violations = [each for name in PUBLIC_MODULES for each in faults_of_all(importlib.import_module(name))]
    assert [] == violations
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    section = re.search(r"^## Public modules\n(.*?)(?=^## |\Z)", readme, re.MULTILINE | re.DOTALL)
    if section:
        assert PUBLIC_MODULES == sorted(set(re.findall(r"^[-*|] *`(nextk[\w.]*)`", section[1], re.MULTILINE)))


def faults_of_all(module: ModuleType) -> Iterator[str]:
    """The mistakes in the `__all__` of a module."""
    listed: list[str] = list(getattr(module, "__all__", []))
    if not listed or listed != sorted(set(listed)):
        yield f"{module.__name__}.__all__ is not there, not sorted, or names something twice"
    for name in listed:
        if not hasattr(module, name):
            yield f"{module.__name__}.{name} is listed, but not there"
    for name, value in vars(module).items():
        defined = getattr(value, "__module__", None) == module.__name__
        public = defined and not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value))
        if public and name not in listed and f"{module.__name__}.{name}" not in SHARED_INSIDE:
            yield f"{module.__name__}.{name} is not listed"


def test_every_all() -> None:
    """In every module, private ones too, `__all__` is sorted and names only what exists."""
    violations = []
    for file, tree in TREES.items():
        if any("__all__" in ast.unparse(node).split("=")[0] for node in tree.body if isinstance(node, ast.Assign)):
            module = importlib.import_module(module_name(file))
            violations += list(faults_of_all(module))
    assert [] == violations


def module_name(file: str) -> str:
    """The dotted name of a source file."""
    return ".".join(["nextk", *Path(file).with_suffix("").parts]).removesuffix(".__init__")


def test_examples_import_public_modules_alone() -> None:
    """README and the cookbook import only what public modules list."""
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    examples += [path.read_text(encoding="utf-8") for path in sorted((REPOSITORY / "cookbook").glob("*.py"))]
    imported = [
        (node.module, alias.name)
        for example in examples
        for node in ast.walk(ast.parse(example))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "nextk"
        for alias in node.names
    ]
    assert imported
    assert [] == [
        f"{module}.{name}"
        for module, name in imported
        if module not in PUBLIC_MODULES
        or (name not in importlib.import_module(module).__all__ and f"{module}.{name}" not in PUBLIC_MODULES)
    ]


def test_every_parameter_is_documented() -> None:
    """Every class and function that a public module lists says what it is for, and what each of its parameters is.

    A parameter is described by an entry of its own under `Args` or `Attributes`, or named in backticks in a sentence.
    The documentation may also say that the parameters are "those of" something else.
    """
    objects = {
        id(value): (f"{module}.{name}", value)
        for module in PUBLIC_MODULES
        for name in importlib.import_module(module).__all__
        if inspect.isroutine(value := getattr(importlib.import_module(module), name)) or inspect.isclass(value)
    }
    violations = [each for name, value in objects.values() for each in undocumented(name, value)]
    assert [] == sorted(violations)


def undocumented(name: str, value: Any) -> Iterator[str]:
    """What is missing from the documentation of a function, or of a class and its public methods."""
    if not inspect.isclass(value):
        yield from undocumented_parameters(name, value)
        return
    if not value.__doc__:
        yield f"{name} has no docstring"
    if issubclass(value, pydantic.BaseModel):
        yield from undocumented_fields(name, value)
    elif inspect.isfunction(value.__dict__.get("__init__")) and not dataclasses.is_dataclass(value):
        yield from undocumented_parameters(name, value, value.__init__)
    for method, attribute in vars(value).items():
        function = inspect.unwrap(getattr(attribute, "__func__", attribute))
        ours = inspect.isfunction(function) and function.__module__.startswith("nextk.")
        if ours and not method.startswith("_") and not described_elsewhere(value, method):
            yield from undocumented_parameters(f"{name}.{method}", function)


def undocumented_fields(name: str, model: type[pydantic.BaseModel]) -> Iterator[str]:
    """The fields of a pydantic model of ours that its documentation does not describe."""
    documentation = inspect.getdoc(model) or ""
    ours = [base for base in model.__mro__ if base.__module__.startswith("nextk.")]
    for field in {field for base in ours for field in vars(base).get("__annotations__", {}) if field[0] != "_"}:
        if field != "model_config" and not re.search(rf"\b{field}\b", documentation):
            yield f"{name}: {field}"


def described_elsewhere(owner: type, method: str) -> bool:
    """Whether a method overrides another one, or is the asynchronous twin of another one, which has the parameters."""
    overridden = any(hasattr(base, method) for base in owner.__mro__[1:])
    return overridden or (method.startswith("a") and hasattr(owner, method[1:]))


def undocumented_parameters(name: str, documented: Any, function: Any = None) -> Iterator[str]:
    """The parameters of a function that its documentation, or that of its class, does not describe."""
    documentation = inspect.getdoc(documented)
    if not documentation:
        yield f"{name} has no docstring"
        return
    if re.search(r"\bthose of `", documentation) or getattr(documented, "_is_protocol", False):
        return
    described = {"self", "cls", *ENTRY.findall(documentation), *re.findall(r"`\W*(\w+)", documentation)}
    for parameter in inspect.signature(function or documented).parameters.values():
        if parameter.name not in described and not parameter.name.startswith("_"):
            yield f"{name}: {parameter.name}"


def test_no_retired_words() -> None:
    """No public docstring, and no module docstring, begins or speaks in the way that has to be read twice."""
    assert [] == [
        f"{file}:{line}: {words.splitlines()[0]}"
        for file, tree in TREES.items()
        for line, words in docstrings(tree)
        if RETIRED_OPENING.match(words) or "Likewise" in words
    ]


def docstrings(node: ast.Module | Definition) -> Iterator[tuple[int, str]]:
    """The docstrings of a module and its public definitions and constants, with their lines."""
    if words := ast.get_docstring(node):
        yield node.body[0].lineno, words
    for before, child in zip([None, *node.body], node.body, strict=False):
        if isinstance(child, Definition) and not child.name.startswith("_") and not isinstance(node, ast.FunctionDef):
            yield from docstrings(child)
        elif isinstance(child, ast.Expr) and isinstance(before, ast.Assign | ast.AnnAssign):
            target = ast.unparse(before.targets[0] if isinstance(before, ast.Assign) else before.target)
            if isinstance(child.value, ast.Constant) and isinstance(child.value.value, str) and target[0] != "_":
                yield child.lineno, child.value.value
