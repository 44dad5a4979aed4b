"""The identity of text models: made of what decides vectors, stored with an index, and compared when it is opened."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from llama_index.core import MockEmbedding
from pydantic import BaseModel, Field

from nextk import Index
from nextk.engine.file import connect
from nextk.engine.formats import seal
from nextk.engine.text.identity import identify
from nextk.errors import ClientError
from nextk.types import Data
from tests.support.subprocesses import output
from tests.support.transports import Opener


class Remote(Embeddings):
    """A model that is configured as the clients of hosted models are."""

    def __init__(
        self, model: str, *, scale: float = 1.0, api_key: str = "k", base_url: str = "https://a", timeout: int = 1
    ) -> None:
        self.model = model
        self._scale = scale
        self.api_key = api_key
        self.base_url = base_url
        self.timeout = timeout
        self.embedded = 0

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return equal vectors, and count the texts."""
        self.embedded += len(texts)
        return [[1.0, self._scale] for _ in texts]

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a document."""
        return self.embed_documents([text])[0]


class CacheBackedEmbeddings(Embeddings):
    """A wrapper that looks like LangChain's."""

    def __init__(self, underlying_embeddings: Embeddings, batch_size: int) -> None:
        self.underlying_embeddings = underlying_embeddings
        self.batch_size = batch_size

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Ask the model that is wrapped."""
        return self.underlying_embeddings.embed_documents(texts)

    def embed_query(self, text: str) -> list[float]:
        """Ask the model that is wrapped."""
        return self.underlying_embeddings.embed_query(text)


class Keeping:
    """A model that keeps the name of its model only in an object that it holds."""

    def __init__(self, name: str) -> None:
        self._model = type("Inner", (), {"model_name": name})()

    def embed_query(self, text: str) -> dict[int, float]:
        """Return a sparse vector."""
        return {len(text): 1.0}

    embed_documents = None


class Transformer:
    """A model as sentence-transformers has them: its name stands in its tokenizer."""

    def __init__(self, name: str, device: str = "cpu") -> None:
        self.tokenizer = type("Tokenizer", (), {"name_or_path": name})()
        self.device = device
        self.max_seq_length = 8

    def encode(self, texts: list[str]) -> list[list[float]]:
        """Return equal vectors."""
        return [[1.0, 2.0] for _ in texts]


def plain(texts: list[str], model: str = "", api_key: str = "", additional_kwargs: Any = None) -> list[list[float]]:
    """Return equal vectors."""
    return [[1.0, 2.0] for _ in texts]


def other(texts: list[str]) -> list[list[float]]:
    """Return equal vectors."""
    return [[2.0, 1.0] for _ in texts]


def sparse(texts: list[str]) -> list[dict[int, float]]:
    """Return equal sparse vectors."""
    return [{1: 1.0} for _ in texts]


def sparser(texts: list[str]) -> list[dict[int, float]]:
    """Return equal sparse vectors."""
    return [{2: 1.0} for _ in texts]


EQUAL: list[tuple[Any, Any]] = [
    (Remote("a", api_key="x", timeout=1), Remote("a", api_key="y", timeout=9, base_url="https://b")),
    (CacheBackedEmbeddings(Remote("a"), 1), Remote("a")),
    (functools.partial(plain, model="a", api_key="x"), functools.partial(plain, model="a", api_key="y")),
    (Transformer("a").encode, Transformer("a", device="cuda").encode),
    (DeterministicFakeEmbedding(size=3), DeterministicFakeEmbedding(size=3)),
    (MockEmbedding(embed_dim=3, embed_batch_size=1), MockEmbedding(embed_dim=3, embed_batch_size=7)),
]
DIFFERENT: list[tuple[Any, Any]] = [
    (Remote("a"), Remote("b")),
    (Remote("a", scale=1.0), Remote("a", scale=2.0)),
    (CacheBackedEmbeddings(Remote("a"), 1), CacheBackedEmbeddings(Remote("b"), 1)),
    (plain, other),
    (functools.partial(plain, model="a"), functools.partial(plain, model="b")),
    (functools.partial(plain, model="a"), plain),
    (Transformer("a").encode, Transformer("b").encode),
    (Keeping("a"), Keeping("b")),
    (DeterministicFakeEmbedding(size=3), DeterministicFakeEmbedding(size=4)),
    (MockEmbedding(embed_dim=3), MockEmbedding(embed_dim=4)),
    (Remote("a").embed_documents, Remote("b").embed_documents),
    (Remote("a").embed_documents, Remote("a")),
]


class TestIdentify:
    """The identity of one model."""

    @pytest.mark.parametrize(("one", "another"), EQUAL)
    def test_equal(self, one: Any, another: Any) -> None:
        """Keys, addresses, timeouts, batch sizes, devices and caches are no part of the identity of a model."""
        assert identify(one) == identify(another)

    @pytest.mark.parametrize(("one", "another"), DIFFERENT)
    def test_different(self, one: Any, another: Any) -> None:
        """The type of a model, its name, its settings and the model that it wraps or holds are its identity."""
        assert identify(one) != identify(another)

    def test_use(self) -> None:
        """A model that was used has the identity that it had before."""
        model = Remote("a")
        before = identify(model)
        model.embed_query("text")
        assert before == identify(model)

    @pytest.mark.parametrize(
        "model",
        [
            Remote("a", api_key="hidden", base_url="https://hidden:hidden@host"),
            Remote("https://user:hidden@host/model"),
            functools.partial(plain, api_key="hidden"),
            functools.partial(plain, additional_kwargs={"access": "hidden", "openaiKey": "hidden"}),
            Keeping("a" * 200 + "hidden"),
        ],
    )
    def test_secrets(self, model: Any) -> None:
        """Neither a secret, nor an address that may hold one, nor a memory address stands in an identity."""
        assert "hidden" not in identify(model)
        assert " at 0x" not in identify(model)

    def test_function(self) -> None:
        """A function is identified by its module and its qualified name, also a lambda and one of a script."""
        assert "tests.engine.test_model_identity.plain" == identify(plain)
        assert identify(lambda texts: texts).endswith("TestIdentify.test_function.<locals>.<lambda>")

    def test_another_process(self) -> None:
        """A model that is configured equally has the same identity in another process, whatever its hash seed."""
        code = (
            "from tests.engine.test_model_identity import EQUAL\n"
            "from nextk.engine.text.identity import identify\n"
            "print([identify(one) for one, _ in EQUAL])"
        )
        assert str([identify(one) for one, _ in EQUAL]) == output(code)

    def test_cycle(self) -> None:
        """A model that holds itself has an identity."""
        model = CacheBackedEmbeddings(Remote("a"), 1)
        model.underlying_embeddings = model
        assert identify(model).endswith("CacheBackedEmbeddings")


SECRETS = [
    *(
        "pat",
        "sas",
        "dsn",
        "pin",
        "pw",
        "pwd",
        "db_pass",
        "passphrase",
        "signature",
        "sig",
        "conn_str",
        "connection_string",
    ),
    *("private", "license", "dbPassword", "HF_TOKEN", "openaiApiKey2", "model_api_key", "deployment_token", "jwt"),
]
MODELS = [
    *("base_model", "baseModel", "model_dir", "local_model_folder", "endpoint_name", "apiEndpointName", "model_url"),
    *("deployment", "deployment_id", "deployment_home", "api_deployment_name", "remoteModels"),
]
RUNNING = [
    "model_timeout",
    "model_cache_dir",
    "base_url",
    "api_endpoint",
    "device",
    "cache_dir",
    "batch_size",
    "region",
]


def configured(settings: dict[str, Any]) -> Any:
    """Return a model of a class that takes any settings and declares these."""
    parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in settings]

    class Configured:
        """A model whose settings are its attributes."""

        __signature__ = inspect.Signature(parameters)

    model = Configured()
    vars(model).update(settings)
    return model


def holders(name: str, value: Any) -> list[Any]:
    """Return models that have a setting: as an attribute, as an argument, and in dicts at two depths."""
    return [
        configured({name: value}),
        functools.partial(anything, **{name: value}),
        configured({"model_kwargs": {name: value}}),
        configured({"other": [{"encode_kwargs": {name: value}}]}),
    ]


def anything(texts: list[str], **settings: Any) -> list[list[float]]:
    """Return equal vectors."""
    return plain(texts)


class TestNames:
    """Which settings decide vectors, by their names."""

    @pytest.mark.parametrize("name", SECRETS)
    def test_secrets(self, name: str) -> None:
        """A setting that is named like a secret is left out, be it a text or a number, at every depth."""
        for one, another in zip(holders(name, "sk-1"), holders(name, 7316), strict=True):
            assert identify(one) == identify(another)
            assert name not in identify(one)

    @pytest.mark.parametrize("name", RUNNING)
    def test_running(self, name: str) -> None:
        """A setting that says how or where a model runs is left out."""
        for one, another in zip(holders(name, "a"), holders(name, "b"), strict=True):
            assert identify(one) == identify(another)

    @pytest.mark.parametrize("name", MODELS)
    def test_models(self, name: str) -> None:
        """A setting that names a model tells models apart, also where its name holds a word for a place."""
        for one, another in zip(holders(name, "a"), holders(name, "b"), strict=True):
            assert identify(one) != identify(another)


class Pydantic(BaseModel):
    """A model of pydantic's as it was."""

    model: str = "a"
    scale: float = 1.0


class PydanticLater(BaseModel):
    """A later version of it, with more settings."""

    model: str = "a"
    scale: float = 1.0
    mode: str = "fast"
    weights: list[float] = Field(default_factory=lambda: [1.0, 2.0])
    dimensions: int | None = None
    normalize: bool = False


@dataclass
class Plain:
    """A dataclass as it was."""

    model: str = "a"


@dataclass
class PlainLater:
    """A later version of it, with more settings."""

    model: str = "a"
    mode: str = "fast"
    weights: list[float] = field(default_factory=lambda: [1.0, 2.0])


class RemoteLater(Remote):
    """A later version of `Remote`, with more settings."""

    def __init__(self, model: str, *, scale: float = 1.0, mode: str = "fast", normalize: bool = False) -> None:
        super().__init__(model, scale=scale)
        self.mode = mode
        self.normalize = normalize


LATER: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
    (Pydantic, PydanticLater),
    (Plain, PlainLater),
    (functools.partial(Remote, "a"), functools.partial(RemoteLater, "a")),
]


def settings_of(model: Any) -> str:
    """Return the identity of a model without the name of its type."""
    return identify(model).partition("(")[2]


class TestDefaults:
    """Settings that have their default."""

    @pytest.mark.parametrize(("before", "later"), LATER)
    def test_new_setting(self, before: Callable[..., Any], later: Callable[..., Any]) -> None:
        """A class that gains settings with defaults keeps its identity until one of them is set."""
        assert settings_of(before()) == settings_of(later())
        assert settings_of(later()) != settings_of(later(mode="slow"))

    @pytest.mark.parametrize("later", [PydanticLater, functools.partial(RemoteLater, "a")])
    def test_known(self, later: Callable[..., Any]) -> None:
        """The name of a model is kept even if it is the default, and a setting that decides vectors if it is set."""
        assert "model='a'" in identify(later())
        assert "normalize=True" in identify(later(normalize=True))

    def test_failing_factory(self) -> None:
        """A setting whose default cannot be made by itself is kept."""
        values = iter(["fast"])
        model: Any = type("Made", (), {"model_fields": {"mode": SimpleNamespace(default_factory=values.__next__)}})()
        model.mode = next(values)
        assert "mode=#" in identify(model)


class Noting:
    """A model that notes the length of its first vector."""

    def __init__(self, name: str) -> None:
        self.model = name
        self.dimension: int | None = None

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts."""
        self.dimension = 3
        return [[1.0, 2.0, float(len(text))] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """Embed a query."""
        return self.embed_documents([text])[0]


class TestReopening:
    """The identity that an index stores is compared when the index is opened again."""

    def test_another_model(self, tmp_path: Path) -> None:
        """Another model of the same dimension is refused, the error names both, and `same_model` accepts and stores."""
        path = tmp_path / "i"
        with Index.embedded(path, embedding=Remote("a")) as index:
            index.upsert([Data("1", "text")])
        with pytest.raises(ClientError, match=r"model='a'.*model='b'.*same_model=True"):
            Index.embedded(path, embedding=Remote("b"))
        with Index.embedded(path, embedding=Remote("b"), same_model=True) as index:
            assert 1 == index.info().vector_count
            assert "model='b'" in index.info().embedding_identity
        with pytest.raises(ClientError, match=r"model='b'.*model='a'.*same_model=True"):
            Index.embedded(path, embedding=Remote("a"))

    def test_the_length_that_a_model_notes(self, tmp_path: Path) -> None:
        """A model that notes the length of its first vector is the same model before and after."""
        model = Noting("a")
        with Index.embedded(tmp_path / "i", embedding=model) as index:
            index.upsert([Data("1", "text")])
        assert 3 == model.dimension
        Index.embedded(tmp_path / "i", embedding=model).close()

    def test_another_dimension(self, tmp_path: Path) -> None:
        """A model that is known to make vectors of another length is refused, whatever it is said to be the same as."""
        with Index.embedded(tmp_path / "i", embedding=Noting("a")) as index:
            index.upsert([Data("1", "text")])
        with pytest.raises(ClientError, match=r"vectors of 3 dimensions, .* makes vectors of 256"):
            Index.embedded(tmp_path / "i", embedding="static", same_model=True)
        Index.embedded(tmp_path / "i", embedding=Noting("a")).close()

    def test_sparse(self, tmp_path: Path) -> None:
        """A sparse model is compared as a dense one is."""
        path = tmp_path / "i"
        Index.embedded(path, sparse_embedding=sparse).close()
        with pytest.raises(ClientError, match=r"sparse as sparse_embedding=.*sparser.*same_model=True"):
            Index.embedded(path, sparse_embedding=sparser)
        with Index.embedded(path, sparse_embedding=sparser, same_model=True) as index:
            assert index.info().sparse_embedding_identity.endswith(".sparser")

    def test_open_already(self, tmp_path: Path) -> None:
        """An index that this process has open is compared as well, and keeps the model that it embeds with."""
        path = tmp_path / "i"
        models: dict[str, Any] = {"embedding": plain, "sparse_embedding": sparse}
        with Index.embedded(path, **models) as index:
            before = index.info()
            for keyword, another in {"embedding": other, "sparse_embedding": sparser}.items():
                changed = models | {keyword: another}
                with pytest.raises(ClientError, match=rf"{keyword}=.*{another.__name__}.*same_model=True"):
                    Index.embedded(path, **changed)
                with pytest.raises(ClientError, match="close its other clients first"):
                    Index.embedded(path, **changed, same_model=True)
            with Index.embedded(path, **models, same_model=True):
                assert before == index.info()
        with Index.embedded(path, embedding=other, sparse_embedding=sparser, same_model=True) as index:
            assert index.info().embedding_identity.endswith(".other")
            assert index.info().sparse_embedding_identity.endswith(".sparser")

    def test_a_bundled_model_and_an_own_one(self, tmp_path: Path) -> None:
        """A model that comes with nextk and one of the caller's own are different models."""
        path = tmp_path / "i"
        Index.embedded(path, embedding="static").close()
        with pytest.raises(ClientError, match=r"static\(.*plain.*same_model=True"):
            Index.embedded(path, embedding=plain)

    def test_no_model(self, tmp_path: Path) -> None:
        """An index that has no model takes none later, not even by `same_model`."""
        Index.embedded(tmp_path / "i", type="dense").close()
        with pytest.raises(ClientError, match=r"without embedding="):
            Index.embedded(tmp_path / "i", embedding=plain, same_model=True)

    def test_missing_model(self, tmp_path: Path) -> None:
        """An index opened without its model tells which one it needs."""
        Index.embedded(tmp_path / "i", embedding=plain).close()
        with pytest.raises(ClientError, match=r"test_model_identity\.plain.*embedding="):
            Index.embedded(tmp_path / "i")

    def test_index_made_before(self, tmp_path: Path) -> None:
        """An index that stores no identity takes that of the first model given, and its weighting is unset."""
        path = tmp_path / "i"
        Index.embedded(path, embedding=plain).close()
        forget(path, "embedding_identity", "sparse_embedding_identity", "weighting")
        with Index.embedded(path, embedding=other) as index:
            assert index.info().embedding_identity.endswith(".other")
            assert index.info().weighting is None
        with pytest.raises(ClientError, match="same_model=True"):
            Index.embedded(path, embedding=plain)


class TestInfo:
    """`info` tells the identities."""

    async def test_models(self, open_index: Opener) -> None:
        """The identities of both models are told, over both transports and in both colours."""
        info = await open_index("hybrid", embedding="static", sparse_embedding=sparse).info()
        assert info.embedding_identity.startswith("static(model='l2_supercat'")
        assert info.sparse_embedding_identity.endswith("test_model_identity.sparse")

    async def test_none(self, open_index: Opener) -> None:
        """An index without models has no identities to tell."""
        info = await open_index("dense").info()
        assert ("", "") == (info.embedding_identity, info.sparse_embedding_identity)


def forget(path: Path, *names: str) -> None:
    """Remove fields from the schema that a file stores, as an earlier version did not write them."""
    file = connect(path, None)
    (stored,) = file.connection.execute("SELECT value FROM properties WHERE name = 'schema'").fetchone()
    schema = {name: value for name, value in orjson.loads(stored).items() if name not in names}
    with file.transaction():
        stored = orjson.dumps(schema).decode()
        file.connection.execute("UPDATE properties SET value = ? WHERE name = 'schema'", (stored,))
        seal(file.connection)
    file.close()
