"""The service over HTTP: routes, answers, and the line that the log has of each request."""

import asyncio
import hmac
import json
import math
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asd_jax.deploy.serve.asked import Asked
from asd_jax.deploy.serve.description import openapi, page
from asd_jax.deploy.serve.limits import Refused
from asd_jax.deploy.serve.metrics import CUT_OFF
from asd_jax.deploy.serve.receiving import receive
from asd_jax.deploy.serve.scoring import readings
from asd_jax.deploy.serve.service import Job, Scored, Service, State, abandoning
from asd_jax.errors import UserError
from asd_jax.fitting.fitted import Fitted
from asd_jax.fitting.score_records import score_record
from asd_jax.runtime.plain import plain

# The page has its style inside, and loads nothing.
_PAGE_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
_OPEN = ("/healthz", "/readyz")  # without a token, for whoever starts and stops the service


def make_app(service: Service, token: str | None = None, access_log: bool = True) -> ASGIApp:
    """The service as an ASGI application.

    Args:
        service: which scores.
        token: that requests must have, but those for health; None for none.
        access_log: whether the log has a line for each request.
    """

    async def score(request: Request) -> Response:
        return await _score(service, request)

    async def machines(request: Request) -> Response:
        return answer({"run": service.run, "machines": machines_of(service.fitted)})

    async def health(request: Request) -> Response:
        return answer({"status": "alive"})

    async def ready(request: Request) -> Response:
        status = 200 if service.state is State.READY else 503
        return answer({"status": service.state.value}, status)

    async def metrics(request: Request) -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    async def description(request: Request) -> Response:
        return answer(openapi(service.limits, token is not None))

    async def docs(request: Request) -> Response:
        text = page(openapi(service.limits, token is not None))
        return Response(text, media_type="text/html", headers=_PAGE_HEADERS)

    routes = [
        Route("/v1/score", score, methods=["POST"]),
        *(
            Route(path, endpoint, methods=["GET"])
            for path, endpoint in {
                "/v1/machines": machines,
                "/healthz": health,
                "/readyz": ready,
                "/metrics": metrics,
                "/openapi.json": description,
                "/": docs,
                "/docs": docs,
            }.items()
        ),
    ]
    return _Front(
        Starlette(routes=routes, exception_handlers=_HANDLERS), service, token, access_log
    )


def answer(document: Mapping[str, Any], status: int = 200, **headers: str) -> Response:
    """A document as JSON in ASCII, which strict parsers read."""
    text = json.dumps(plain(document), allow_nan=False)
    return Response(text, status, headers, media_type="application/json")


def machines_of(fitted: Fitted) -> list[dict[str, Any]]:
    """Machines of a run with their sections and thresholds, and how their recordings are read."""
    found = []
    for machine in fitted.machines:
        sections = fitted.sections_of(machine)
        thresholds = {
            section: _or_none(fitted.threshold(machine=machine, section=section or None))
            for section in sections or ("",)
        }
        rates = [rate for rate, _ in readings(fitted, machine)]
        found.append(
            {
                "machine": machine,
                "sections": None if sections is None else [*sections],
                "threshold": thresholds[""] if sections is None else None,
                "thresholds": None if sections is None else thresholds,
                "sample_rate": max(rates),
            }
        )
    return found


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


async def _score(service: Service, request: Request) -> Response:
    """Receives recordings, waits for their scores, and answers with these."""
    try:
        asked = Asked.of(service.fitted, request.query_params.multi_items())
    except UserError as error:
        raise Refused(400, str(error)) from error
    service.check_open()
    received = await receive(request, service.admit, service.limits)
    names = [each.name or asked.name for each in received]
    jobs = [
        service.begin(each.slot, asked, name) for each, name in zip(received, names, strict=True)
    ]
    results = await _results(request, jobs, service.limits.timeout_s)
    scored = [each for each in results if isinstance(each, Scored)]
    refused = [
        (name, each) for name, each in zip(names, results, strict=True) if isinstance(each, Refused)
    ]
    if not scored:
        raise refused[0][1]
    remarks = [remark for each in scored for remark in each.remarks]
    return answer(
        {
            "run": service.run,
            "recordings": [score_record(row) for each in scored for row in each.rows],
            "remarks": [*dict.fromkeys(remarks)],
            "left_out": [{"file": name, "error": str(error)} for name, error in refused],
        }
    )


async def _results(request: Request, jobs: Sequence[Job], timeout: float) -> list[Scored | Refused]:
    """What became of recordings, unless the client goes away or it takes too long."""
    with abandoning(jobs):
        gone = asyncio.ensure_future(_disconnected(request))
        all_done = asyncio.ensure_future(asyncio.wait([job.task for job in jobs]))
        try:
            await asyncio.wait(
                {gone, all_done}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
            if all_done.done():
                return [job.task.result() for job in jobs]
            if gone.done():
                raise ClientDisconnect
            raise Refused(503, f"not scored within {timeout:g} s; try again", Retry_After="5")
        finally:
            gone.cancel()
            all_done.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _error(text: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return answer({"error": text}, status, **dict(headers or {}))


async def _on_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    request.scope["error"] = str(error)
    return _error(str(error), error.status, error.headers)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = f"{error.detail}; / says what there is"
    request.scope["error"] = text
    return _error(text, error.status_code, error.headers)


async def _on_error(request: Request, error: Exception) -> Response:
    return _error("an error of the service, which its log has", 500)


_HANDLERS: dict[Any, Callable] = {
    Refused: _on_refused,
    HTTPException: _on_http,
    Exception: _on_error,  # answers, and raises it again
}


class _Front:
    """What every request passes: the token, the log, the metrics, and the last resort."""

    def __init__(self, app: Starlette, service: Service, token: str | None, access_log: bool):
        self._app, self._service, self._access_log = app, service, access_log
        self._token = None if token is None else token.encode()
        self._paths = {route.path for route in app.routes if isinstance(route, Route)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        begin, status = time.perf_counter(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if self._is_allowed(scope):
                await self._app(scope, receive, noted)
            else:
                scope["error"] = "this needs the service's token, as Authorization: Bearer TOKEN"
                refusal = _error(scope["error"], 401, {"WWW-Authenticate": "Bearer"})
                await refusal(scope, receive, noted)
        except ClientDisconnect:
            status = CUT_OFF
            scope["error"] = "the client went away"
        except asyncio.CancelledError:  # a stop that does not wait
            scope["error"] = "the service stopped"
            if not status:
                await _error("the service stopped; try again", 503)(scope, receive, noted)
        except Exception as error:  # which was answered
            scope["error"] = f"{type(error).__name__}: {error}"
            status = status or 500
        seconds = time.perf_counter() - begin
        path = scope["path"] if scope["path"] in self._paths else "other"
        self._service.metrics.request(path, status, seconds)
        if self._access_log or status >= 500:
            self._service.log(_line(scope, status, seconds))

    def _is_allowed(self, scope: Scope) -> bool:
        if self._token is None or scope["path"] in _OPEN:
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        kind, _, token = given.partition(b" ")
        return hmac.compare_digest(token.strip(), self._token) and kind.lower() == b"bearer"


def _line(scope: Scope, status: int, seconds: float) -> str:
    """A line of the log: who, what, the outcome, and why where it is an error."""
    client = (scope.get("client") or ("-",))[0]
    path = urllib.parse.quote(scope["path"])[:80]
    line = f"{client} {scope['method']} {path} {status} {1000 * seconds:.1f} ms"
    return f"{line}  {scope['error']}" if "error" in scope else line
