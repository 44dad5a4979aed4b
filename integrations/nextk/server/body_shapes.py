"""The bodies of the commands as JSON schemas, made from the models that validate them."""

import inspect
import re
from collections.abc import Mapping
from typing import Any

from pydantic.alias_generators import to_camel
from pydantic.json_schema import models_json_schema

from nextk import bodies
from nextk.server.reply_shapes import JsonSchema, list_of, reference

MODELS: Mapping[str, type[bodies.Body]] = {
    "upsert": bodies.Record,
    "upsert-data": bodies.TextRecord,
    "update": bodies.Update,
    "query": bodies.VectorQuery,
    "query-data": bodies.TextQuery,
    "resumable-query": bodies.VectorStart,
    "resumable-query-data": bodies.TextStart,
    "resumable-query-next": bodies.NextPage,
    "resumable-query-end": bodies.Uuid,
    "fetch": bodies.Fetch,
    "range": bodies.Range,
    "delete": bodies.Delete,
    "rename-namespace": bodies.Rename,
}
"""The model of the body of each command that takes one."""

_MOST = {
    "upsert": bodies.MAX_ROWS,
    "upsert-data": bodies.MAX_ROWS,
    "query": bodies.MAX_QUERIES,
    "query-data": bodies.MAX_QUERIES,
}  # how many objects a command takes at once
_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def model_schemas() -> dict[str, JsonSchema]:
    """Return the schema of each model, by its name, and those of the values that they are made of."""
    models = list(dict.fromkeys(MODELS.values()))
    _, shared = models_json_schema(
        [(model, "validation") for model in models],
        ref_template="#/components/schemas/{model}",
    )
    schemas: dict[str, JsonSchema] = shared["$defs"]
    read: list[type[bodies.Body]] = [*models, bodies.SparseBody]
    for model in read:
        schemas[model.__name__] = _as_read(model, schemas[model.__name__])
    return schemas


def body_content(command: str) -> dict[str, Any]:
    """Return the content of the body of a command, by its media type. The server reads JSON whatever the type says.

    Args:
        command: The name of a command that takes a body.
    """
    one = reference(MODELS[command].__name__)
    if command in _MOST:
        several = list_of(one, _MOST[command]) | {"minItems": 1}
        return {"application/json": {"schema": {"anyOf": [one, several]}}}
    if command != "delete":
        return {"application/json": {"schema": one}}
    ids: JsonSchema = bodies.Delete.model_json_schema()["properties"]["ids"]["anyOf"][0]
    text = {"type": "string", "pattern": r'^[^\[{"\s]', "description": "One id without quotes."}
    raw = {"type": ["string", "number", "boolean", "null"], "description": "One id: its text, though it is JSON."}
    return {"application/json": {"schema": {"anyOf": [one, ids, raw]}}, "text/plain": {"schema": text}}


def _as_read(model: type[bodies.Body], schema: JsonSchema) -> JsonSchema:
    """Return the schema of a model as the server reads it: `null` is absent, and some fields of a base are unknown."""
    required = schema.get("required", [])
    described = {to_camel(name): text for base in reversed(model.__mro__) for name, text in _attributes(base).items()}
    properties = {}
    for name, value in schema["properties"].items():
        if name not in model.ignored:
            field = {key: part for key, part in value.items() if key != "title"}
            description = {"description": described[name]} if name in described else {}
            properties[name] = {**(field if name in required else _nullable(field)), **description}
    text = inspect.cleandoc(model.__doc__ or "").partition("\n\nAttributes:")[0]
    return {**schema, "description": text, "properties": properties}


def _nullable(field: JsonSchema) -> JsonSchema:
    """Return the schema of a field that may be absent or `null`, and keep its default unless that says no more."""
    kinds = [kind for kind in field.get("anyOf", []) if kind != {"type": "null"}]
    value = {key: part for key, part in field.items() if key not in ("anyOf", "default")}
    default = {} if field.get("default") is None else {"default": field["default"]}
    return {"anyOf": [*(kinds or [value]), {"type": "null"}], **default}


def _attributes(model: type) -> dict[str, str]:
    """Return what the docstring of a model says of its fields, in the words of JSON."""
    _, _, attributes = inspect.cleandoc(model.__doc__ or "").partition("\nAttributes:\n")
    found = _ATTRIBUTE.findall(attributes)
    return {name: " ".join(text.split()).replace("`None`", "`null`") for name, text in found}
