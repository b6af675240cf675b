"""The description of the service: OpenAPI 3.1 for programs, and a page that loads nothing."""

import html
from collections.abc import Mapping
from typing import Any

from asd_jax import __version__
from asd_jax.deploy.serve.limits import Limits

_NUMBER = {"description": 'A number; the text "NaN" or "Infinity" where it is not finite.'}
_ERROR = {"$ref": "#/components/schemas/Error"}


def _parameter(name: str, kind: Mapping[str, Any], text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": kind, "description": text}


_PARAMETERS = [
    _parameter("machine", {"type": "string"}, "Machine type; needed where the run has several."),
    _parameter("section", {"type": "string"}, "Section or id; needed where there are several."),
    _parameter("name", {"type": "string", "maxLength": 255}, "What the answer calls the file."),
    _parameter("explain", {"type": "boolean"}, "Whether to say what the score is made of."),
    _parameter(
        "false_alarms",
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "Decide by a threshold that keeps this rate of false alarms.",
    ),
    _parameter("state", {"type": "string"}, "State of the machine, as speed=1500,load=2, or off."),
]
_OBJECT = {"type": "object"}
_SCHEMAS: dict[str, Any] = {
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "string", "description": "One line."}},
    },
    "Recording": {
        "type": "object",
        "required": [
            *("file", "machine", "score", "threshold", "decision", "p_value"),
            *("state", "verdict"),
        ],
        "properties": {
            "file": {"type": "string"},
            "machine": {"type": "string"},
            "score": {
                "description": f"{_NUMBER['description']} Null where it is not scored.",
                "type": ["number", "string", "null"],
            },
            "threshold": {
                "type": ["number", "string", "null"],
                "description": "A larger score is anomalous; null where the run has none.",
            },
            "decision": {"enum": [0, 1, None], "description": "1 for anomalous."},
            "p_value": {
                "type": ["number", "null"],
                "description": "Largest rate at which normal recordings have such a score.",
            },
            "state": {"type": "string", "description": "Of the machine; empty if not known."},
            "verdict": {
                "enum": ["normal", "anomalous", "off", "transient", "unseen state", ""],
                "description": "Those that are off, transient or unseen are not scored.",
            },
            "explanation": {**_OBJECT, "description": "With explain=true."},
        },
    },
    "Scores": {
        "type": "object",
        "required": ["run", "recordings", "remarks", "left_out"],
        "properties": {
            "run": {"type": "string"},
            "recordings": {"type": "array", "items": {"$ref": "#/components/schemas/Recording"}},
            "remarks": {"type": "array", "items": {"type": "string"}},
            "left_out": {
                "type": "array",
                "description": "Of a form with several files: those without a score.",
                "items": {
                    "type": "object",
                    "required": ["file", "error"],
                    "properties": {"file": {"type": "string"}, "error": {"type": "string"}},
                },
            },
        },
    },
    "Machines": {
        "type": "object",
        "required": ["run", "machines"],
        "properties": {
            "run": {"type": "string"},
            "machines": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["machine", "sections", "threshold", "thresholds", "sample_rate"],
                    "properties": {
                        "machine": {"type": "string"},
                        "sections": {"type": ["array", "null"], "items": {"type": "string"}},
                        "threshold": {"type": ["number", "string", "null"]},
                        "thresholds": {"type": ["object", "null"]},
                        "sample_rate": {"type": "integer", "description": "In Hz."},
                    },
                },
            },
        },
    },
}


def _answers(what: str, kind: str, schema: Mapping[str, Any], **more: str) -> dict[str, Any]:
    errors = {
        status: {"description": text, "content": {"application/json": {"schema": _ERROR}}}
        for status, text in more.items()
    }
    good = {"description": what, "content": {kind: {"schema": schema}}}
    return {"200": good, **{status.removeprefix("on"): each for status, each in errors.items()}}


def _get(summary: str, operation: str, answers: Mapping[str, Any], needs_token: bool = True) -> Any:
    own: dict[str, Any] = {} if needs_token else {"security": []}
    return {"get": {"summary": summary, "operationId": operation, "responses": answers, **own}}


def openapi(limits: Limits, needs_token: bool) -> dict[str, Any]:
    """The description in OpenAPI 3.1.

    Args:
        limits: of the service.
        needs_token: whether requests must have a token.

    Examples:
        >>> [*openapi(Limits(), needs_token=False)["paths"]][:2]
        ['/v1/score', '/v1/machines']
    """
    json = "application/json"
    recording = {"schema": {"type": "string", "format": "binary"}}
    files = {"type": "array", "items": {"type": "string", "format": "binary"}}
    score = {
        "post": {
            "summary": "Score recordings",
            "operationId": "score",
            "parameters": _PARAMETERS,
            "requestBody": {
                "required": True,
                "description": (
                    "A recording as the body (WAV, FLAC, Ogg, MP3 and what else libsndfile reads), "
                    f"or a form with up to {limits.max_files} files; at most "
                    f"{limits.max_bytes / 2**20:g} MiB, and {limits.max_seconds:g} s of sound each."
                ),
                "content": {
                    "application/octet-stream": recording,
                    "multipart/form-data": {
                        "schema": {"type": "object", "properties": {"file": files}}
                    },
                },
            },
            "responses": _answers(
                "The scores; one a clip, where the run cuts recordings.",
                json,
                {"$ref": "#/components/schemas/Scores"},
                on400="A parameter, machine, section or form that cannot be used.",
                on401="The token is missing or wrong.",
                on408="The body took too long.",
                on413="The body, or the recording in it, is too large or too long.",
                on415="The body has a Content-Encoding.",
                on422="The recording cannot be used: the line that `asd-jax score` has for it.",
                on500="An error of the service.",
                on503="Starting, stopping, full or too slow; Retry-After says when to try again.",
            ),
        }
    }
    text = {"type": "string"}
    ready = {
        **_answers("Recordings are taken.", json, _OBJECT),
        "503": {"description": "Not yet, or no more.", "content": {json: {"schema": _OBJECT}}},
    }
    machines = _answers("Machines.", json, {"$ref": "#/components/schemas/Machines"})
    html_page = _answers("A page.", "text/html", text)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "asd-jax serve",
            "version": __version__,
            "description": "Anomaly scores of recordings of machines, by a fitted run.",
        },
        "paths": {
            "/v1/score": score,
            "/v1/machines": _get("Machines, sections, thresholds", "machines", machines),
            "/healthz": _get(
                "Whether the process lives", "health", _answers("It does.", json, _OBJECT), False
            ),
            "/readyz": _get("Whether recordings are taken", "ready", ready, False),
            "/metrics": _get(
                "Metrics for Prometheus", "metrics", _answers("Metrics.", "text/plain", text)
            ),
            "/openapi.json": _get("This description", "openapi", _answers("It.", json, _OBJECT)),
            "/": _get("This description as a page", "page", html_page),
            "/docs": _get("This description as a page", "docs", html_page),
        },
        "components": {"schemas": _SCHEMAS},
    }
    if needs_token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}"
    "code,pre{background:#eee;padding:.1rem .3rem}pre{padding:.7rem;overflow:auto}"
    "td,th{text-align:left;vertical-align:top;padding:.2rem 1rem .2rem 0}"
    "@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}code,pre{background:#333}}"
)


def page(document: Mapping[str, Any]) -> str:
    """The description as one page of HTML, which loads nothing."""
    info = document["info"]
    token = " -H 'Authorization: Bearer TOKEN'" if "security" in document else ""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'>",
        f"<title>{html.escape(info['title'])}</title><style>{_STYLE}</style>",
        f"<h1>{html.escape(info['title'])} {html.escape(info['version'])}</h1>",
        f"<p>{html.escape(info['description'])} For programs: ",
        "<a href=/openapi.json>openapi.json</a>.</p>",
        f"<pre>curl{token} --data-binary @NEW.wav 'http://HOST:PORT/v1/score?machine=fan'\n",
        f"curl{token} -F file=@A.wav -F file=@B.flac 'http://HOST:PORT/v1/score?machine=fan'</pre>",
    ]
    for path, methods in document["paths"].items():
        for method, own in methods.items():
            parts.append(f"<h2><code>{method.upper()} {html.escape(path)}</code></h2>")
            parts.append(f"<p>{html.escape(own['summary'])}.</p>")
            if "requestBody" in own:
                parts.append(f"<p>{html.escape(own['requestBody']['description'])}</p>")
            rows = [(each["name"], each["description"]) for each in own.get("parameters", ())]
            rows += [(status, each["description"]) for status, each in own["responses"].items()]
            cells = (f"<tr><th>{html.escape(a)}<td>{html.escape(b)}" for a, b in rows)
            parts.append(f"<table>{''.join(cells)}</table>")
    return "\n".join(parts)
