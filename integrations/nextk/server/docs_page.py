"""The page at `/docs`, which shows the description of a server to a person.

It is one piece of HTML without scripts and without anything from elsewhere, so that it also works without a network,
and nothing on it can act for its reader.
"""

import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

PATH = "/docs"
"""The path of the page."""
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
"""The headers of the page, by which a browser loads and runs nothing else."""

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h3 { margin-bottom: 0 } p { margin: .3rem 0 } code, pre { font-size: .9em } pre { overflow-x: auto }
table { border-collapse: collapse } td, th { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top }
"""
_SHAPE = re.compile(r"\{\s*&quot;\$ref&quot;: &quot;#/components/schemas/(\w+)&quot;\s*\}")


def render(description: Mapping[str, Any]) -> str:
    """Return the page as HTML.

    Args:
        description: The description of the server, in the format of OpenAPI.
    """
    title = escape(description["info"]["title"])
    about = "".join(f"<p>{_prose(part)}</p>" for part in description["info"]["description"].split("\n\n"))
    parts = [f"<h1>{title}</h1>{about}", *_servers(description), *_groups(description)]
    parts += [*_statuses(description), *_shapes(description)]
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'


def _prose(text: str) -> str:
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))


def _servers(description: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>base URLs</h2><ul>"
    for server in description["servers"]:
        names = server.get("variables", {}).get("index", {}).get("enum", [])
        indexes = f" ({', '.join(map(escape, names))})" if names else ""
        yield f"<li><code>{escape(server['url'])}</code> {escape(server.get('description', ''))}{indexes}</li>"
    yield "</ul>"


def _groups(description: Mapping[str, Any]) -> Iterator[str]:
    """Yield the commands by their groups. Each is shown once, with its paths and their methods."""
    groups: dict[str, dict[str, list[str]]] = {}
    for path, item in description["paths"].items():
        operation = item.get("post", item["get"])
        groups.setdefault(operation["tags"][0], {}).setdefault(operation["summary"], []).append(path)
    for group, commands in groups.items():
        yield f"<h2>{escape(group)}</h2>"
        for summary, paths in commands.items():
            yield from _command(description, summary, paths)


def _command(description: Mapping[str, Any], summary: str, paths: list[str]) -> Iterator[str]:
    item = description["paths"][paths[0]]
    operation = item.get("post", item["get"])
    methods = ", ".join(method.upper() for method in item if "operationId" in item[method])
    yield f"<h3>{', '.join(f'<code>{escape(path)}</code>' for path in paths)}</h3>"
    yield f"<p>{escape(summary)}. <small>{methods}; refusals: {', '.join(list(operation['responses'])[1:])}</small></p>"
    if "requestBody" in operation:
        body = _component(description, operation["requestBody"])
        yield _folded(f"body: {body['description']}", body["content"])
    yield _folded("reply", _component(description, operation["responses"]["200"])["content"])


def _component(description: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a part of the description, or the component that it refers to."""
    if "$ref" not in part:
        return part
    _, kind, name = part["$ref"].rsplit("/", 2)
    component: Mapping[str, Any] = description["components"][kind][name]
    return component


def _folded(title: str, content: Mapping[str, Any]) -> str:
    shapes = "".join(
        f"<p>{escape(kind)}</p>{_json(part['schema']) if 'schema' in part else ''}" for kind, part in content.items()
    )
    return f"<details><summary>{escape(title)}</summary>{shapes}</details>"


def _json(schema: object) -> str:
    """Return a schema as HTML, in which the names of other shapes lead to them."""
    text = escape(json.dumps(schema, indent=2, ensure_ascii=False))
    linked = _SHAPE.sub(r'<a href="#\1">\1</a>', text)
    return f"<pre>{linked}</pre>"


def _statuses(description: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>refusals</h2><table><tr><th>status</th><th>meaning</th><th>typical words</th></tr>"
    for response in description["components"]["responses"].values():
        examples = [
            each["value"] for part in response["content"].values() for each in part.get("examples", {}).values()
        ]
        if examples:
            words = "<br>".join(escape(example["error"]) for example in examples)
            yield f"<tr><td>{examples[0]['status']}</td><td>{_prose(response['description'])}</td><td>{words}</td></tr>"
    yield "</table>"


def _shapes(description: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>shapes</h2>"
    for name, schema in description["components"]["schemas"].items():
        yield f'<h3 id="{escape(name)}">{escape(name)}</h3>{_json(schema)}'
