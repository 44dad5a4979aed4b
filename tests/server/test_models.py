"""Models of one's own for served indexes: how they are found, and what is said about those that cannot be used."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nextk.bodies import TextQuery, TextRecord
from nextk.cli.main import main
from nextk.engine.protocol import Engine
from nextk.errors import ClientError
from nextk.server.engines import open_engines
from nextk.server.spec import IndexSpec, parse_spec

MODULE = """
import functools

def lengths(texts):
    return [[float(len(text)), 1.0] for text in texts]

def vowels(texts):
    return [[float(sum(text.count(each) for each in "aeiou")), 1.0] for text in texts]

class Lengths:
    def embed_documents(self, texts):
        return lengths(texts)
    def embed_query(self, text):
        return lengths([text])[0]

class Initials:
    def embed_documents(self, texts):
        return [{ord(text[0]): 1.0} for text in texts]
    def embed_query(self, text):
        return {ord(text[0]): 1.0}

class NeedsKey:
    def __init__(self, key):
        pass

class Holder:
    model = Lengths()

class Ends:
    def __init__(self):
        raise SystemExit(3)
    @property
    def model(self):
        raise RuntimeError("no licence")

class Property(Ends):
    def __init__(self):
        pass

has_property = Property()

lengths_object = Lengths()
nothing = None
number = 3
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with modules in it. Whatever a test imports is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "own_models.py").write_text(MODULE)
    (tmp_path / "own_broken.py").write_text("raise RuntimeError('no licence')\n")
    (tmp_path / "own_script.py").write_text("raise SystemExit\n")
    (tmp_path / "own_lazy.py").write_text("def __getattr__(name):\n    raise ValueError(name)\n")
    (tmp_path / "own_needy.py").write_text("import no_such_package.inner\n")
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "inner.py").write_text(MODULE)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("own_"):
            del sys.modules[name]


def best(engine: Engine, text: str) -> str:
    """Store three texts, and return the id of the one that is nearest to another text."""
    engine.upsert_data("", [TextRecord(id=each, data=each) for each in ("a", "aaaa", "zzzzzzzz")])
    return engine.query("", TextQuery(data=text, top_k=1))[0].id


@pytest.mark.parametrize(
    "reference",
    [
        "own_models:lengths",
        "own_models:lengths_object",
        "own_models:Lengths",
        "own_models:Holder.model",
        "own_package.inner:lengths",
    ],
)
def test_a_served_index_embeds_by_a_model_of_ones_own(reference: str) -> None:
    """A function, an object and a class in a module of the current folder each embed documents and queries."""
    with open_engines([parse_spec(f"docs=dense,similarity=euclidean,embedding={reference}")], None) as engines:
        assert "zzzzzzzz" == best(engines["docs"], "eeeeeee")
        assert engines["docs"].schema.embedding_identity.startswith(reference.partition(":")[0])


def test_a_hybrid_index_takes_two_models_of_ones_own() -> None:
    """Both keywords take a reference, and either may stand beside a model that comes with nextk."""
    specs = [
        parse_spec("own=hybrid,embedding=own_models:lengths,sparse_embedding=own_models:Initials"),
        parse_spec("mixed=hybrid,embedding=own_models:lengths,sparse_embedding=bm25"),
        parse_spec("sparse=sparse,sparse_embedding=own_models:Initials"),
    ]
    with open_engines(specs, None) as engines:
        assert "zzzzzzzz" == best(engines["own"], "zebra ef")
        assert ["custom", "bm25"] == [engines["mixed"].schema.embedding, engines["mixed"].schema.sparse_embedding]
        assert "a" == best(engines["sparse"], "apple")


def test_a_stored_index_takes_only_the_model_that_it_was_made_with(folder: Path) -> None:
    """Reopened, an index wants its model again, by the name of a module, and refuses another one."""
    same, other = (parse_spec(f"docs=dense,embedding=own_models:{name}") for name in ("lengths", "vowels"))
    for _ in range(2):
        with open_engines([same], folder) as engines:
            assert "a" == best(engines["docs"], "e")
    with pytest.raises(ClientError, match=r"own_models\.lengths.*own_models\.vowels"), open_engines([other], folder):
        pass
    with pytest.raises(ClientError, match="MODULE:ATTRIBUTE to nextk serve --index"), open_engines([], folder):
        pass
    with open_engines([other], folder, same_model=True) as engines:
        assert list(engines) == ["docs"]


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("own_absent:model", "there is no module own_absent in {folder}, and none among the installed packages"),
        ("own_package.absent:model", "there is no module own_package.absent in {folder}, and none among"),
        ("own_needy:model", "importing own_needy failed, ModuleNotFoundError: No module named 'no_such_package'"),
        ("own_broken:model", "importing own_broken failed, RuntimeError: no licence"),
        ("own_script:model", "importing own_script failed, SystemExit"),
        ("own_models:Ends", "calling it without arguments failed, SystemExit: 3"),
        ("own_models:has_property.model", "getting has_property.model failed, RuntimeError: no licence"),
        ("own_lazy:model", "getting model failed, ValueError: model"),
        ("own_models:absent", "there is no absent in {folder}/own_models.py"),
        ("own_models:Holder.absent", "there is no Holder.absent in {folder}/own_models.py"),
        ("own_models:NeedsKey", "calling it without arguments failed, TypeError: "),
        ("own_models:number", "it is 3, but a model is a function that takes list[str], or an object"),
        ("own_models:nothing", "it is None, but a model is a function"),
    ],
)
def test_what_cannot_be_imported_is_said_with_the_reason(folder: Path, reference: str, words: str) -> None:
    """The error names the option, the folder in which modules are found, and what the module raised; nothing opens."""
    spec = IndexSpec("docs", {"type": "dense", "embedding": reference})
    data = folder / "data"
    with pytest.raises(ClientError) as refused, open_engines([spec], data):
        pass
    assert str(refused.value).startswith(f"--index docs: cannot use embedding={reference}: ")
    assert words.format(folder=folder) in str(refused.value)
    assert [] == list(data.iterdir())


@pytest.mark.parametrize("reference", ["own_models", ":lengths", "own_models:", "own models:lengths", "a:b:c", "a/b:c"])
def test_what_is_no_reference_is_refused(reference: str) -> None:
    """A model is named by a module and an attribute, with a colon between them, and by nothing else."""
    with pytest.raises(ClientError, match="as in module:attribute"):
        parse_spec(f"docs=dense,embedding={reference}")


def test_contradictions_are_found_before_anything_is_imported() -> None:
    """A wrong spec is refused although its module does not exist."""
    with pytest.raises(ClientError, match="no dense vectors"):
        parse_spec("docs=sparse,embedding=own_absent:model")
    with pytest.raises(ClientError, match="give sparse_embedding too"):
        parse_spec("docs=hybrid,embedding=own_absent:model")


def test_the_command_says_in_one_line_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    """`nextk serve` ends with the exit code of a mistake, and without a traceback."""
    assert 2 == main(["serve", "--port", "0", "--index", "docs=dense,embedding=own_broken:model"])
    out, err = capsys.readouterr()
    assert ("", 1) == (out, err.count("\n"))
    assert "RuntimeError: no licence" in err
