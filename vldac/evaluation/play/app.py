"""The page and what it asks for, over HTTP."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from envs import registry
from envs.base import EVALUATION_SEEDS, MAX_PROMPT_CHARACTERS, SimulatorError
from vldac.config import EnvConfig
from vldac.evaluation import pages
from vldac.evaluation.play.errors import NotFoundError, RefusedError
from vldac.evaluation.play.guard import MAX_BODY, Guard
from vldac.evaluation.play.models import Choice, Models, ask
from vldac.evaluation.play.sessions import Sessions
from vldac.evaluation.player import data_uri
from vldac.utils.errors import UserError, explain
from vldac.utils.pictures import read_base64

#: Of an uploaded picture.
MAX_PICTURE_PIXELS = 24 * 10**6
MAX_ACTION_CHARACTERS = 1024
#: How an environment is shown to a person who plays alone.
_ALONE = EnvConfig(width=640, height=480, prompt="full")
_FILES = {"/": "play.html", **{f"/{name}": name for name in ("shared.css", "play.css", "shared.js", "play.js")}}
_SWEEP = 30.0  # seconds between two looks for idle sessions

Name = Annotated[str, Field(min_length=1, max_length=256)]
Seed = Annotated[int, Field(ge=0, lt=EVALUATION_SEEDS.stop)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class NewSession(_Body):
    """An environment, and the model that answers in it; null plays alone."""

    environment: Name
    model: Name | None = None
    seed: Seed | None = None


class NewEpisode(_Body):
    """The seed of an episode; null draws one of evaluation."""

    seed: Seed | None = None


class Ask(_Body):
    """What the model is asked; null takes the environment's own prompt."""

    prompt: Annotated[str, Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS)] | None = None


class Act(_Body):
    """An action in words; null takes the model's last answer."""

    action: Annotated[str, Field(min_length=1, max_length=MAX_ACTION_CHARACTERS)] | None = None


class Question(_Body):
    """A picture, as a file in base64, and what is asked about it."""

    model: Name
    question: Annotated[str, Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS)]
    picture: Annotated[str, Field(min_length=1, max_length=MAX_BODY)]


@dataclass(frozen=True)
class Chosen:
    """What the page opens with; None leaves it to the page."""

    environment: str | None = None
    model: str | None = None


def create_app(
    models: Models,
    sessions: Sessions,
    hosts: Collection[str],
    chosen: Chosen | None = None,
    presets: Mapping[str, EnvConfig] = MappingProxyType({}),
) -> FastAPI:
    """The application.

    Args:
        models: to choose from.
        sessions: takes what is opened; all of it is closed at the end.
        hosts: that a request may name, with their port.
        chosen: what the page opens with.
        presets: sections `env` by their names, which may be chosen as environments.
    """
    chosen = chosen or Chosen()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(sessions))
        try:
            yield
        finally:
            sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await sweeping
            await run_in_threadpool(sessions.close_all)

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, hosts=hosts)
    _add_files(app)
    _add_errors(app)
    _add_choices(app, models, chosen, presets)
    _add_sessions(app, models, sessions, chosen, presets)
    return app


async def _sweep(sessions: Sessions) -> None:
    while True:
        await asyncio.sleep(_SWEEP)
        await run_in_threadpool(sessions.sweep)


def _add_files(app: FastAPI) -> None:
    def route(path: Path) -> Callable[[], FileResponse]:
        def file() -> FileResponse:  # without a parameter, which a request could give
            return FileResponse(path)

        return file

    for address, name in _FILES.items():
        app.add_api_route(address, route(pages.DIRECTORY / name), methods=["GET"], response_class=FileResponse)


def _add_errors(app: FastAPI) -> None:
    """Expected failures are one line; all else is a defect, of which the page learns no more than that."""

    async def refused(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": explain(error)}, getattr(error, "status", 422))

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        lines = [f"{'.'.join(map(str, one['loc'][1:])) or 'request'}: {one['msg']}" for one in error.errors()[:3]]
        return JSONResponse({"error": "; ".join(lines)}, 422)

    for kind in (UserError, SimulatorError, OSError):
        app.add_exception_handler(kind, refused)
    app.add_exception_handler(RequestValidationError, invalid)


def _environments(choices: Collection[Choice], chosen: Chosen, presets: Collection[str]) -> list[str]:
    """The environments that may be chosen: those installed, and those that a preset, a model or the command names."""
    named = {*presets, *(choice.environment for choice in choices), chosen.environment}
    return sorted({*registry.playable(), *filter(None, named)})


def _add_choices(app: FastAPI, models: Models, chosen: Chosen, presets: Collection[str]) -> None:
    @app.get("/api/choices")
    def choices() -> dict[str, Any]:
        found = models.choices()
        return {
            "environments": _environments(found, chosen, presets),
            "models": [{"name": one.name, "note": one.note, "environment": one.environment} for one in found],
            "environment": chosen.environment,
            "model": chosen.model,
        }

    @app.post("/api/questions")
    def question(asked: Question) -> dict[str, Any]:
        picture = read_base64(asked.picture, "the picture", max_pixels=MAX_PICTURE_PIXELS)
        with models.use(asked.model) as player:
            reply = ask(player, picture, asked.question)
        tokens = [[token.text, round(token.probability, 4)] for token in reply.tokens]
        return {"picture": data_uri(reply.picture), "tokens": tokens, "truncated": reply.truncated}


def _add_sessions(
    app: FastAPI, models: Models, sessions: Sessions, chosen: Chosen, presets: Mapping[str, EnvConfig]
) -> None:
    @app.post("/api/sessions")
    def begin(new: NewSession) -> dict[str, Any]:
        if new.environment not in _environments(models.choices(), chosen, presets):
            raise NotFoundError(f"there is no environment {new.environment!r} here; load the page again")
        shown = _ALONE
        if new.model is not None:
            with models.use(new.model) as player:
                shown = player.config.env
        env = presets.get(new.environment) or EnvConfig(id=new.environment)
        if new.environment == shown.id:
            env = shown  # by the rules of the model's training
        return sessions.open(new.environment, env, shown, new.model, _seed(new.seed)).state()

    @app.delete("/api/sessions/{name}")
    def close(name: str) -> dict[str, Any]:
        sessions.close(name)
        return {}

    @app.post("/api/sessions/{name}/episode")
    def episode(name: str, new: NewEpisode) -> dict[str, Any]:
        with sessions.use(name) as session:
            return session.begin(_seed(new.seed))

    @app.post("/api/sessions/{name}/answer")
    def answer(name: str, asked: Ask) -> dict[str, Any]:
        with sessions.use(name) as session:
            if session.model is None:
                raise RefusedError("no model plays here; choose one")
            with models.use(session.model) as player:
                return session.answer(player, asked.prompt).data()

    @app.post("/api/sessions/{name}/step")
    def step(name: str, act: Act) -> dict[str, Any]:
        with sessions.use(name) as session:
            return session.step(act.action)


def _seed(given: int | None) -> int:
    """A seed that was given, or one of evaluation at random."""
    return EVALUATION_SEEDS[secrets.randbelow(len(EVALUATION_SEEDS))] if given is None else given
