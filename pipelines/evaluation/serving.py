"""`vldac models serve`: a policy behind HTTP, with a queue, batches, health, readiness and metrics.

    curl -s http://127.0.0.1:5001/act -H 'Content-Type: application/json' \
        -d "{\"image\": \"$(base64 -w0 picture.png)\", \"instruction\": \"go to the red box.\"}"

`seed` is that of the response's sampling, as the simulator's policy has it: the same observation, temperature and seed
give the same tokens. What cannot be read is refused with status 400; what finds no room, or no turn in time, with 503
and `Retry-After`.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.client import OK
from pathlib import Path
from typing import Annotated, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipelines.core import extensions
from pipelines.core.guard import HOSTS, Guard, listed
from pipelines.evaluation import benchmarks, watching
from vldac import policy
from vldac.acting import Actor
from vldac.batching import Batcher, BusyError
from vldac.evaluation.model import load
from vldac.observations import MAX_BYTES, read_observation
from vldac.utils.errors import UserError
from vldac.utils.libraries import quiet
from vldac.utils.progress import Progress

#: Environment variable: what `Authorization: Bearer …` must say. Needed to listen on more than this machine.
TOKEN = "VLDAC_SERVE_TOKEN"  # noqa: S105  # a name
#: Bytes of a request: one picture of the largest size as base64, and some more.
MAX_BODY = 2 * MAX_BYTES
_BODY_SECONDS = 30.0
log = logging.getLogger(__name__)
_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Asked(BaseModel):
    """A request: what the policy is shown, and how its answer is drawn."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: str | list[str]
    instruction: str
    history: list[list[str]] = []
    temperature: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**64)] = 0


class _Metrics:
    """What Prometheus is told of one server."""

    def __init__(self, batcher: Callable[[], Batcher]) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("vldac_requests", "Requests for an answer.", ["status"], registry=registry)
        self.seconds = Histogram(
            "vldac_request_seconds", "From a request to its answer.", buckets=_BUCKETS, registry=registry
        )
        self.batch = Histogram(
            "vldac_batch_questions", "Questions answered at once.", buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry
        )
        queue = Gauge("vldac_queue_length", "Questions that wait.", registry=registry)
        queue.set_function(lambda: len(batcher()))
        free = Gauge("vldac_disk_free_bytes", "Bytes free on the disk of the server.", registry=registry)
        free.set_function(lambda: shutil.disk_usage(".").free)


def application(actor: Actor, *, size: int, capacity: int, patience: float, token: str | None = None) -> Starlette:
    """The server of one policy.

    Args:
        actor: the policy.
        size: questions that are answered at once, at most.
        capacity: questions that wait, at most.
        patience: seconds within which a question's turn must come.
        token: that a request must carry; None asks for none. Health and readiness never ask.
    """
    metrics = _Metrics(lambda: batcher)
    batcher = Batcher(actor, size=size, capacity=capacity, on_batch=metrics.batch.observe)

    room = asyncio.Semaphore(
        2 * capacity + size
    )  # of what waits and what is read: a request takes memory before its turn

    async def act(request: Request) -> Response:
        started = time.perf_counter()
        try:
            _require_token(request, token)
            _require_room(room, batcher)
            async with room:
                response = await _answer(request, batcher, patience)
        except _RefusedError as refused:
            response = _refusal(refused.status, refused.cause, refused.retry_after)
        except Exception:  # counted and told as any other answer, with its traceback in the log
            log.exception("a question was not answered")
            response = _refusal(500, "the policy failed; its server's log has the cause")
        metrics.requests.labels(str(response.status_code)).inc()
        if response.status_code == OK:
            metrics.seconds.observe(time.perf_counter() - started)
        return response

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"}) if batcher.alive else _refusal(500, "no question is answered any more")

    async def ready(_: Request) -> Response:
        return _refusal(503, "the queue is full", 1) if batcher.full else JSONResponse({"status": "ready"})

    async def show(request: Request) -> Response:
        try:
            _require_token(request, token)
        except _RefusedError as refused:
            return _refusal(refused.status, refused.cause)
        return Response(generate_latest(metrics.registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(batcher.close)

    routes = [
        Route("/act", act, methods=["POST"]),
        Route("/metrics", show),
        Route("/health", health),
        Route("/ready", ready),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


class _RefusedError(Exception):
    """A request that is not answered: its status, the cause in a line, and when to come back, if that may help."""

    def __init__(self, status: int, cause: str, retry_after: int | None = None) -> None:
        super().__init__(cause)
        self.status, self.cause, self.retry_after = status, " ".join(cause.split()), retry_after


def _require_token(request: Request, token: str | None) -> None:
    given = request.headers.get("authorization", "").encode()
    if token is not None and not hmac.compare_digest(given, f"Bearer {token}".encode()):
        raise _RefusedError(401, "the header Authorization must hold the server's token")


def _require_room(room: asyncio.Semaphore, batcher: Batcher) -> None:
    if room.locked() or batcher.full:
        raise _RefusedError(503, "too many questions wait already; ask again later", batcher.retry_after)


async def _answer(request: Request, batcher: Batcher, patience: float) -> Response:
    """Answers one request.

    Raises:
        _RefusedError: it cannot be read or answered, or there is no room for it.
    """
    asked = _parse(await _body(request))
    try:
        observation = await run_in_threadpool(read_observation, asked.image, asked.instruction, asked.history)
        question = batcher.ask(observation, temperature=asked.temperature, seed=asked.seed, patience=patience)
        decision = await asyncio.wrap_future(question)
    except BusyError as error:
        raise _RefusedError(503, str(error), error.retry_after) from None
    except (ValueError, UserError) as error:  # no picture, or what this model cannot be shown
        raise _RefusedError(400, str(error)) from None
    thoughts = decision.parsed.thoughts if decision.parsed else None
    return JSONResponse({"action": decision.action, "thoughts": thoughts, "text": decision.text})


def _parse(body: bytes) -> Asked:
    try:
        return Asked.model_validate(json.loads(body))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise _RefusedError(400, f"{'.'.join(map(str, first['loc'])) or 'the request'}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise _RefusedError(400, f"the request is not valid JSON ({error})") from None


async def _body(request: Request) -> bytes:
    """The body of a request; no more of it is read than it may have."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise _RefusedError(415, "Content-Type must be application/json")
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > MAX_BODY:
                    raise _RefusedError(413, f"a request may hold {MAX_BODY} bytes")
    except (TimeoutError, ClientDisconnect):
        raise _RefusedError(408, f"the request did not arrive within {_BODY_SECONDS:.0f} s") from None
    return bytes(body)


def _refusal(status: int, cause: str, retry_after: int | None = None) -> JSONResponse:
    headers = None if retry_after is None else {"Retry-After": str(retry_after)}
    return JSONResponse({"error": cause}, status_code=status, headers=headers)


@contextmanager
def opened(root: Path, model: str, *, host: str = "", **options: Any) -> Iterator[tuple[str, Guard]]:
    """The server of a registered version or of a policy's directory, and the model's name.

    Args:
        root: the project.
        model: models:/NAME@champion, NAME/3, or a policy's directory.
        host: that it will listen at, by which it may be asked then.
        options: of `application`.

    Raises:
        PipelineError: there is no such policy, or it cannot be fetched.
    """
    watching.require_policy(model)
    with benchmarks.opened(root, model) as subject:
        extensions.make_importable(root, subject.code)
        paths = dict(zip(subject.paths[::2], subject.paths[1::2], strict=True))
        with Progress(f"loading {subject.name}"):
            actor = _load(Path(paths["--policy"]), paths["--base"])
        hosts = [*filter(None, [host]), socket.gethostname(), socket.getfqdn(), *listed(os.environ.get(HOSTS, ""))]
        yield subject.name, Guard(application(actor, **options), hosts)


def _load(directory: Path, base: str) -> Actor:
    """A policy, where it runs fastest, whose responses may be as long as they were in training."""
    quiet()
    return Actor.of(load(base, directory), policy.recorded_config(directory, "rollout").rollout)
