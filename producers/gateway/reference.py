"""The OpenAPI, and the reference made of it: as a page at `/docs`, and as `docs/reference/http.md`.

FastAPI's own page loads its program from a CDN, which would not work offline and which our Content-Security-Policy forbids;
ours is plain HTML without any program. `make schemas` writes the Markdown, and a test complains when it is old.
"""

import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from producers.gateway.routes.again import Changes
from shared.jobs.request import JobRequest

FILE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "http.md"

_REF = "#/components/schemas/{model}"


def openapi(app: FastAPI) -> dict[str, Any]:
    """The app's description, with the bodies that are read by hand."""
    if app.openapi_schema:
        return app.openapi_schema
    schema = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, tags=_TAGS
    )
    asked = JobRequest.model_json_schema(ref_template=_REF)
    schemas = schema["components"]["schemas"]
    schemas.update(asked.pop("$defs", {}))
    asked["required"] = [name for name in asked.get("required", []) if name != "frontend"]
    asked["properties"]["frontend"]["description"] = "May be left out: it follows from the API key."
    schemas["JobRequest"] = asked
    schemas["Changes"] = Changes.model_json_schema(ref_template=_REF)
    for path in schema["paths"].values():
        for operation in path.values():
            # FastAPI's own 422, which our handler replaces.
            operation["responses"] = {
                status: answer
                for status, answer in operation["responses"].items()
                if "HTTPValidationError" not in json.dumps(answer)
            }
            for status, answer in operation["responses"].items():
                if status[0] in "45" and "application/problem+json" in answer.get("content", {}):
                    answer["content"].pop("application/json", None)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    app.openapi_schema = schema
    return schema


_TAGS = [
    {"name": "jobs", "description": "Put jobs in, ask about them, end them."},
    {"name": "events", "description": "Live events, as Server-Sent Events."},
    {"name": "workflows", "description": "What can be run."},
    {"name": "files", "description": "Files for inputs."},
    {"name": "hooks", "description": "ComfyUI Deploy's webhooks; nothing for clients."},
    {"name": "health", "description": "For operators; no API key is asked for."},
]

_INTRO = """# HTTP reference

Written by `make schemas` from the gateway's OpenAPI, which it serves at `/openapi.json`; do not edit.
How to use it: [add a frontend](../guides/add-a-frontend.md).

* A key of `CONVEYOR_API_KEYS` goes into `Authorization: Bearer …`.
  It stands for one frontend, and sees no other's jobs.
* Every error is a problem document ([below](#problemdocument)), as `application/problem+json`.
* Every answer has `X-Request-ID`; send one of your own to find a request in the log.
* Answers to a key have `RateLimit-Policy` and `RateLimit`; a 429 or 503 has `Retry-After`.
"""


def markdown(schema: dict[str, Any]) -> str:
    """The reference as it stands in the file."""
    return "\n".join([_INTRO, *_routes(schema), "## Models\n", *_models(schema)]).rstrip() + "\n"


def _routes(schema: dict[str, Any]) -> Iterator[str]:
    for tag in schema["tags"]:
        yield f"## {tag['name'].capitalize()}\n\n{tag['description']}\n"
        for path, operations in schema["paths"].items():
            for method, operation in operations.items():
                if tag["name"] in operation.get("tags", []):
                    yield from _operation(method, path, operation)


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"### {method.upper()} {path}\n"
    yield f"{operation.get('description') or operation['summary']}\n"
    if parameters := operation.get("parameters"):
        yield "| parameter | in | type | |\n|---|---|---|---|"
        for one in parameters:
            required = "required. " if one.get("required") else ""
            text = f"{required}{one.get('description', '')}".strip()
            yield f"| `{one['name']}` | {one['in']} | {_type(one['schema'])} | {_cell(text)} |"
        yield ""
    for kind, media in operation.get("requestBody", {}).get("content", {}).items():
        yield f"Body: `{kind}`, {_type(media['schema'])}.\n"
        if "example" in media:
            yield f"```json\n{json.dumps(media['example'], indent=2)}\n```\n"
    yield "| answer | |\n|---|---|"
    for status, answer in sorted(operation["responses"].items()):
        kinds = [f"`{kind}` {_type(media.get('schema', {}))}" for kind, media in answer.get("content", {}).items()]
        yield f"| {status} | {_cell(answer['description'])} {'; '.join(kinds)} |"
    yield ""


def _models(schema: dict[str, Any]) -> Iterator[str]:
    for name, model in sorted(schema["components"]["schemas"].items()):
        yield f"### {name}\n"
        yield f"{model.get('description', '').strip()}\n"
        if values := model.get("enum"):
            yield f"One of {', '.join(f'`{value}`' for value in values)}.\n"
            continue
        required = model.get("required", [])
        yield "| field | type | |\n|---|---|---|"
        for field, one in model.get("properties", {}).items():
            text = f"{'required. ' if field in required else ''}{one.get('description', '')}".strip()
            yield f"| `{field}` | {_type(one)} | {_cell(text)} |"
        yield ""


def _type(schema: dict[str, Any]) -> str:
    if ref := schema.get("$ref"):
        name = str(ref).rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if options := schema.get("anyOf"):
        return " or ".join(dict.fromkeys(_type(one) for one in options))
    if values := schema.get("enum"):
        return ", ".join(f"`{value}`" for value in values)
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("format") or kind)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def page(schema: dict[str, Any]) -> str:
    """The reference as a page: the same text, readable without any program."""
    title = html.escape(schema["info"]["title"])
    body = html.escape(markdown(schema).replace("(../guides/add-a-frontend.md)", ""))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<title>{title}</title><body><p><a href="/openapi.json">openapi.json</a></p><pre>{body}</pre></body></html>'
    )


if __name__ == "__main__":
    from producers.gateway.app import make_app
    from shared.settings import Settings

    FILE.write_text(markdown(make_app(Settings()).openapi()))
