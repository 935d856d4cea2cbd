"""The OpenAPI document, from the types that requests are checked by, and a page that shows it."""

from typing import Any

import msgspec

from recsys.serve.events.event import Event
from recsys.serve.requests import RankRequest, RecommendRequest, SimilarRequest
from recsys.serve.settings import ServingSettings

PAGE = """<!doctype html><meta charset="utf-8"><title>Millrace</title>
<style>body{font:15px/1.5 system-ui;max-width:60em;margin:2em auto;padding:0 1em}pre{background:#f4f4f4;padding:1em;
overflow:auto}summary{cursor:pointer;font-weight:600}</style>
<h1>Millrace: recommendations by HTTP</h1><p><a href="openapi.json">openapi.json</a></p><div id="paths"></div>
<script>
fetch("openapi.json").then(r => r.json()).then(api => {
  const at = document.getElementById("paths");
  for (const [path, verbs] of Object.entries(api.paths)) for (const [verb, about] of Object.entries(verbs)) {
    const one = document.createElement("details"), head = document.createElement("summary");
    const text = document.createElement("pre");
    head.textContent = verb.toUpperCase() + " " + path + " \\u2013 " + about.summary;
    const body = about.requestBody;
    text.textContent = JSON.stringify(body ? body.content["application/json"] : about.responses, null, 2);
    one.append(head, text); at.append(one);
  }
});
</script>
"""

_EXAMPLES: dict[str, Any] = {
    "/v1/recommend": {"user": "u42", "n": 5},
    "/v1/rank": {"user": "u42", "items": ["i1", "i2", "i3"]},
    "/v1/similar": {"item": "i1", "n": 5},
    "/v1/events": [{"event_id": "e1", "type": "click", "user_id": "u42", "item_id": "i1"}],
}
_POSTS = {
    "/v1/recommend": (RecommendRequest, "a list for a user"),
    "/v1/rank": (RankRequest, "given items in the order of the published models"),
    "/v1/similar": (SimilarRequest, "items that the same users chose"),
    "/v1/events": (list[Event] | Event, "what users did: answered when it is durable, seen by the next request"),
}
_GETS = {
    "/v1/models": "what is served",
    "/health/live": "the process answers",
    "/health/ready": "a publication is loaded",
    "/metrics": "Prometheus metrics of all workers",
}
_ERROR = {
    "type": "object",
    "required": ["error", "reason"],
    "properties": {"error": {"type": "string"}, "reason": {"type": "string"}},
}
_ITEM = {
    "type": "object",
    "required": ["item", "impression_id", "position", "score", "channels"],
    "properties": {
        "item": {"type": "string"},
        "impression_id": {"type": "string"},
        "position": {"type": "integer"},
        "score": {"type": ["number", "null"]},
        "channels": {"type": "array", "items": {"type": "string"}},
        "explanation": {"type": "object"},
    },
}
_LIST = {
    "type": "object",
    "required": ["request_id", "model", "items", "took_ms"],
    "properties": {
        "request_id": {"type": "string"},
        "model": {"type": "string"},
        "experiment": {"type": "object"},
        "degraded": {"type": "string"},
        "reason": {"type": "string"},
        "items": {"type": "array", "items": _ITEM},
        "took_ms": {"type": "number"},
    },
}
_ACCEPTED = {
    "type": "object",
    "required": ["accepted", "repeated"],
    "properties": {"accepted": {"type": "integer"}, "repeated": {"type": "integer"}},
}
_REFUSALS = {400: "a field is wrong", 401: "no token", 408: "too slow", 413: "too large", 429: "too many requests"}


def document(settings: ServingSettings) -> dict[str, Any]:
    """The OpenAPI 3.1 document of this server."""
    # From the types that requests are decoded by, so that document and checks can't differ.
    schemas, components = msgspec.json.schema_components(
        [request for request, _ in _POSTS.values()], ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, Any] = {}
    for (path, (_, summary)), schema in zip(_POSTS.items(), schemas, strict=True):
        answer = _ACCEPTED if path == "/v1/events" else _LIST
        paths[path] = {
            "post": {
                "summary": summary,
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": schema, "example": _EXAMPLES[path]}},
                },
                "responses": {"200": _json("the answer", answer)}
                | {str(status): _json(text, _ERROR) for status, text in _REFUSALS.items()}
                | {"503": _json("events can't be written", _ERROR)},
            }
        }
    for path, summary in _GETS.items():
        responses = {"200": {"description": "ok"}, "401": _json("no token", _ERROR)}
        paths[path] = {"get": {"summary": summary, "responses": responses}}
    components |= {"Error": _ERROR}  # of answers, which have no type to take it from
    # Said only where it is true: a client generated from the document would ask for a token.
    secured: dict[str, Any] = {"security": [{"token": []}]} if settings.token else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Millrace", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        **secured,
    }


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
